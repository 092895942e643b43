"""Real signals on the host, from EDF files to batches of samples. NumPy only, never JAX."""
