"""What every command shares: progress, mistakes in one sentence, exit codes, the compilation cache."""

import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

NOTICE = "Research use only. Not a medical device. Review the events before any use."
LINE_EVERY_SECONDS = 30.0
OK, USAGE, NOT_ANALYSED, SOME_FAILED, PEER_LOST, INTERRUPTED = 0, 2, 3, 5, 75, 130
MISTAKES = (ValueError, OSError, FloatingPointError)
"""What a user can correct: printed as one sentence."""


def run(command: Callable[[], int]) -> None:
    """Run a command and exit; a mistake of the user's ends in one sentence, not in a stack trace.

    In a log file, too, a line is there as soon as it is printed, also when the command is killed later.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        code = command()
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        code = INTERRUPTED
    except MISTAKES as error:
        print_error(error)
        code = NOT_ANALYSED
    sys.exit(code)


def print_error(error: Exception | str) -> None:
    """One sentence on standard error."""
    from siamese_jax.jobs import in_words

    print(f"error: {error if isinstance(error, str) else in_words(error)}", file=sys.stderr)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float, float], None]]:
    """A bar on standard error, called with `(what, done, total)`; a new `what` that begins at 0 starts again.

    Where standard error is no terminal (the log of a cluster's job), a line now and then instead.
    """
    if not sys.stderr.isatty():
        lines = _Lines()
        try:
            yield lines.update
        finally:
            lines.show()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    # Time left is computed from the pace of the last hour: a training step may last longer than the usual half minute.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600) as bar:
        task = bar.add_task("")

        def update(what: str, done: float, total: float) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield update


class _Lines:
    """Progress in a log file: at most a line in `LINE_EVERY_SECONDS`, and one at the end."""

    def __init__(self) -> None:
        self._line, self._due = "", time.monotonic() + LINE_EVERY_SECONDS
        self._since, self._before, self._done = math.nan, math.nan, math.inf

    def update(self, what: str, done: float, total: float) -> None:
        now = time.monotonic()
        if done < self._done:  # the first news, or something else begins; a run that resumes begins late
            self._since, self._before = now, done
        self._done = done
        self._line = f"{what} {100 * done / max(total, 1e-9):.0f} %"
        if self._before < done < total:
            left = (total - done) * (now - self._since) / (done - self._before)
            self._line += f", {timedelta(seconds=round(left))} left"
        if now >= self._due:
            self.show()

    def show(self) -> None:
        if self._line:
            print(self._line, file=sys.stderr, flush=True)
        self._line, self._due = "", time.monotonic() + LINE_EVERY_SECONDS


def use_compilation_cache() -> None:
    """Keep what JAX compiled from one command to the next, and for its workers: a second run starts in a second."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(home / "siamese-jax" / "jax")
        jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
