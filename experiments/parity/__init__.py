"""Networks beside their PyTorch twins: `make parity`."""
