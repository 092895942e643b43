"""The list of commands, and the way in."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import tyro

from siamese_jax.cli.console import NOTICE, run
from siamese_jax.cli.deployment import detect, export, models, review
from siamese_jax.cli.evaluation import evaluate, fix_thresholds
from siamese_jax.cli.recordings import info, prepare
from siamese_jax.cli.training import Start, train

COMMANDS: dict[str, Callable[..., int]] = {
    "info": info,
    "prepare": prepare,
    "train": train,
    "fix-thresholds": fix_thresholds,
    "evaluate": evaluate,
    "detect": detect,
    "review": review,
    "models": models,
    "export": export,
}


def main() -> None:
    """The command line."""
    run(lambda: command(sys.argv[1:]))


def command(arguments: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    commands = dict(COMMANDS)
    if arguments[:1] == ["train"]:
        # Its flags change the configuration that --preset or --init-from names: these two are read first.
        start, _ = tyro.cli(Start, args=arguments, prog="siamese-jax train", return_unknown_args=True, add_help=False)
        commands["train"] = partial(train, config=start.config())
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="siamese-jax",
        description="IEDs and sleep stages from scalp EEG. " + NOTICE,
        args=arguments,
    )


if __name__ == "__main__":
    main()
