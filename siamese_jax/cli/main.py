"""The list of commands, and the entry point."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

import tyro

from siamese_jax.cli.console import NOTICE, OK, run
from siamese_jax.cli.deployment import detect, export, models, review
from siamese_jax.cli.evaluation import evaluate, fix_thresholds
from siamese_jax.cli.recordings import info, prepare
from siamese_jax.cli.training import Start, train
from siamese_jax.config.own import IMPORTS

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
    if list(arguments) == ["--version"]:
        print(f"siamese-jax {version('siamese-jax')}")
        return OK
    if arguments[:1] == ["--import"]:
        if len(arguments) < 3:
            raise ValueError("--import takes the name of a module, then a command follows")
        os.environ[IMPORTS] = arguments[1]  # workers inherit it
        arguments = arguments[2:]
    commands = dict(COMMANDS)
    if arguments[:1] == ["train"]:
        # Its flags change the configuration that --preset or --init-from names: these two are read first.
        start, _ = tyro.cli(Start, args=arguments, prog="siamese-jax train", return_unknown_args=True, add_help=False)
        commands["train"] = partial(train, config=start.config())
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="siamese-jax",
        description="IEDs and sleep stages from scalp EEG. `siamese-jax --version` prints the version;"
        " `siamese-jax --import MODULE COMMAND ...` imports your own networks first. " + NOTICE,
        args=arguments,
    )


if __name__ == "__main__":
    main()
