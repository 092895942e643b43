"""Sources of recordings: the simulator, and one reader for each public data set. NumPy and SciPy, never JAX."""
