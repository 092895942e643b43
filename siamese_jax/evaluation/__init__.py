"""Scores of probabilities, and their intervals. NumPy only, never JAX."""
