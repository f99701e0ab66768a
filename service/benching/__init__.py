"""`whyserve bench`: what a server or a bundle does under load, for its user."""
