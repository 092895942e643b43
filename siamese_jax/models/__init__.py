"""The Flax room: networks from frequency-temporal maps to logits. Nothing outside it imports flax."""
