"""The models that come with the package: data, a folder each. `python -m experiments.weights` makes them.

<name>/config.json  identity.json  parameters.safetensors  operating_points.json    as `checkpoints.load` reads them
<name>/card.md    what it learnt from, what it scored, where it fails
"""

from importlib.metadata import version
from pathlib import Path

HOME = Path(__file__).parent
DEFAULT, CARD = "ied", "card.md"
FALSE_PER_HOUR = 1.0
"""At which `siamese-jax detect` takes the default model, unless told otherwise: its users read what it finds."""


def names() -> tuple[str, ...]:
    """The models that there are."""
    return tuple(sorted(path.parent.name for path in HOME.glob("*/config.json")))


def folder(name: str = DEFAULT) -> Path:
    """Where a model lies.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in names():
        there = ", ".join(names()) or "none"
        raise ValueError(f"no model {name!r} comes with this installation (there are: {there}); name a checkpoint")
    return HOME / name


def is_ours(folder: Path) -> bool:
    """Whether a folder is that of a model of the package."""
    return folder.resolve().parent == HOME.resolve()


def title(folder: Path) -> str:
    """What to call the model in a folder: by its name if it comes with the package, else by its path."""
    return f"{folder.name}, which comes with siamese-jax {version('siamese-jax')}" if is_ours(folder) else str(folder)
