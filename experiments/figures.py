"""What all figures of results share: drawing without a screen, colours, and how a figure is written."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: no screen is needed
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from siamese_jax.files import replacing

DPI = 100
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#8c510a")
"""Okabe & Ito's without yellow; black is for what others are compared with."""


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, and close it; the folder is created if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
