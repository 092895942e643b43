"""The list of commands, and the way in."""

import sys
from collections.abc import Callable, Sequence

import tyro

from siamese_jax.cli.console import NOTICE, run
from siamese_jax.cli.deployment import detect, export
from siamese_jax.cli.evaluation import evaluate, fix_thresholds
from siamese_jax.cli.recordings import info, prepare
from siamese_jax.cli.training import train, train_command

COMMANDS: dict[str, Callable[..., int]] = {
    "info": info,
    "prepare": prepare,
    "train": train,
    "fix-thresholds": fix_thresholds,
    "evaluate": evaluate,
    "detect": detect,
    "export": export,
}


def main() -> None:
    """The command line."""
    run(lambda: command(sys.argv[1:]))


def command(arguments: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit code.

    Flags may stand before or after a preset's name.
    """
    commands = COMMANDS | ({"train": train_command(arguments)} if arguments[:1] == ["train"] else {})
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="siamese-jax",
        description="IEDs and sleep stages from scalp EEG. " + NOTICE,
        args=arguments,
        config=(tyro.conf.CascadeSubcommandArgs,),
    )


if __name__ == "__main__":
    main()
