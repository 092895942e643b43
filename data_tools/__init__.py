"""Sources of recordings: the simulator, and one reader a public data set. NumPy and SciPy, never JAX."""
