"""What every command shares: progress, mistakes in one sentence, exit codes, the compilation cache."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOTICE = "Research use only. Not a medical device. Review the events before any use."
OK, USAGE, NOT_ANALYSED, SOME_FAILED, INTERRUPTED = 0, 2, 3, 5, 130


def run(command: Callable[[], int]) -> None:
    """Run a command and exit; a mistake of the user's ends in one sentence, not in a stack trace."""
    try:
        code = command()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (ValueError, OSError, FloatingPointError) as error:
        complain(error)
        code = NOT_ANALYSED
    sys.exit(code)


def complain(error: Exception) -> None:
    """One sentence on standard error."""
    print(f"error: {error}", file=sys.stderr)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float, float], None]]:
    """A bar on standard error, told `(what, done, total)`; a new `what` that begins at 0 starts afresh."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("")

        def update(what: str, done: float, total: float) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield update


def use_compilation_cache() -> None:
    """Keep what JAX compiled from one command to the next: a second run starts in a second."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "siamese-jax" / "jax"))
