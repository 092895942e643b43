"""Signals run under strict dtype promotion: no float64 or bfloat16 slips in unnoticed."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_dtype_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield
