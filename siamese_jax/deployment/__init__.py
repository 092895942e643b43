"""What turns parameters into clinical output: detection, annotation."""
