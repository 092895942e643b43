"""Statistics that only experiments use."""
