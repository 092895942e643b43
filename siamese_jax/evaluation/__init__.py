"""What turns probabilities into numbers. A host room: NumPy only, never JAX."""
