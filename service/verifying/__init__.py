"""`whyserve verify`: everything about a bundle in one report, in plain words."""
