"""Large files, read part by part, and a bar for it."""
