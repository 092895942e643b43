"""The README's picture, of a shorter recording."""

import matplotlib.image
import numpy as np

from experiments import overview
from siamese_jax.cli import console


def test_draws_a_small_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "MINUTES", 2.0)
    monkeypatch.setattr(overview, "PATIENTS", 1)
    out = tmp_path / "images" / "overview.png"
    assert overview.main(out, patient=1) == console.OK
    pixels = matplotlib.image.imread(out)
    assert pixels.shape[:2] == (900, 1100) and np.ptp(pixels[..., :3]) > 0.5
    assert out.stat().st_size < 200_000
