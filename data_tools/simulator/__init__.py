"""The simulator: head, sleep stages, background, and events."""
