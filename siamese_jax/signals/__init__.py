"""Pure signal mathematics: `jax.numpy` in, `jax.numpy` out; no parameters, no I/O.

A batch passes through `augment` (training only), `preprocess` (filter, montage, scale) and `convert`, batch first,
channels last.
"""
