"""What a good engineer writes first to serve one model: measured beside the service, and never part of it."""
