"""What is on disk (bundles) and what is loaded (the registry)."""
