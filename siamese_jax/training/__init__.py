"""What turns samples into parameters: losses, one device's step, its placement on devices, the loop."""
