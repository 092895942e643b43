"""How the tests of networks compile: with as little optimisation as there is, for compiling is what they wait for."""

import functools

import jax

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
