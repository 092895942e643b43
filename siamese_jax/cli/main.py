"""The list of commands, and the way in."""

from collections.abc import Callable

import tyro

from siamese_jax.cli.console import NOTICE, run
from siamese_jax.cli.deployment import detect
from siamese_jax.cli.recordings import info, prepare
from siamese_jax.cli.training import evaluate, train

COMMANDS: dict[str, Callable[..., int]] = {
    "info": info,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "detect": detect,
}


def main() -> None:
    """The command line."""
    description = "IEDs and sleep stages from scalp EEG. " + NOTICE
    run(lambda: tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="siamese-jax", description=description))


if __name__ == "__main__":
    main()
