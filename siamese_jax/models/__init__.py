"""Networks from frequency-temporal maps to logits. Nothing outside of this package imports flax."""
