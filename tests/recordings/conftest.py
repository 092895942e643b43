import pytest


@pytest.fixture
def pyedflib():
    """pyEDFlib, a second opinion on EDF+ that refuses what breaks the standard."""
    return pytest.importorskip("pyedflib", reason="pyEDFlib is not installed: it has no wheel for this Python")
