"""Commands that run in the tests' own process must not be the first to say how many devices it has."""

import pytest


@pytest.fixture(scope="package", autouse=True)
def eight_devices():
    import jax

    assert jax.local_device_count() == 8
