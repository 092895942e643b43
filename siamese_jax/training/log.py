"""The log of a training run."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import jax.numpy as jnp

from siamese_jax.config.experiment import Config
from siamese_jax.training.step import StepMetrics, learning_rate


class TrainingLog:
    """The numbers of a run: JSON lines in `folder/training.jsonl`, curves in `folder/tensorboard/`, `on_step`.

    A step's numbers are fetched while the next one runs, so that the device never waits for them.

    Args:
        folder: of the run; it exists.
        config: the experiment.
        start: step from which the run resumes; lines of later steps are removed.
        on_step: called after each step with its line and `windows_per_second`.
        tensorboard: write curves beside the lines.
        writes: False for a process that is not the first: it calls `on_step` and leaves no files.

    Raises:
        ValueError: `tensorboard`, and tensorboardX is not installed.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        start: int,
        *,
        on_step: Callable[[int, dict[str, float]], None],
        tensorboard: bool = False,
        writes: bool = True,
    ) -> None:
        writer = _summary_writer() if tensorboard else None
        self._file = _resumed_lines(folder / "training.jsonl", start) if writes else None
        self._curves = None
        if writer and writes:
            # Named by its step too: the time in a file's name counts whole seconds, and it would be written over.
            self._curves = writer(
                str(folder / "tensorboard"), purge_step=start + 1, filename_suffix=f".{start}", flush_secs=10
            )
        self._schedule, self._batch_size = learning_rate(config.training), config.training.batch_size
        self._on_step = on_step
        self._waiting: tuple[int, StepMetrics] | None = None
        self._steps, self._since = 0, time.monotonic()

    def step(self, step: int, metrics: StepMetrics) -> None:
        """Take a step's numbers, which may still be on their way, and write those of the step before."""
        self.catch_up()
        self._waiting = (step, metrics)

    def catch_up(self) -> None:
        """Write down the step that is waiting.

        Raises:
            FloatingPointError: one of its numbers is not finite.
        """
        if self._waiting is None:
            return
        (step, metrics), self._waiting = self._waiting, None
        line = _line(step, metrics) | {"learning_rate": float(jnp.asarray(self._schedule(step - 1)))}
        if self._steps == 0:
            self._since = time.monotonic()  # compilation is over
        self._steps += 1
        self.write(line)
        self._on_step(step, line | {"windows_per_second": self.windows_per_second()})

    def windows_per_second(self) -> float:
        """Since the first step, without compilation and pauses."""
        elapsed = time.monotonic() - self._since
        return (self._steps - 1) * self._batch_size / elapsed if self._steps > 1 else math.nan

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count."""
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began

    def write(self, line: dict[str, float]) -> None:
        """Write a line, and its numbers as points of curves at its `step`."""
        # JSON has no NaN: a figure that is undefined (an AUROC without positives) is null, and no point.
        clean = {k: v if math.isfinite(v) else None for k, v in line.items()}
        if self._file:
            self._file.write(json.dumps(clean) + "\n")
            self._file.flush()
        if self._curves:
            for name in clean.keys() - {"step"}:
                if clean[name] is not None:
                    self._curves.add_scalar(name, clean[name], clean["step"])

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._curves):
            if file:
                file.close()


def _line(step: int, metrics: StepMetrics) -> dict[str, float]:
    numbers = {"loss": metrics.loss, **{f"loss/{k}": v for k, v in metrics.task_losses.items()}}
    numbers |= {f"weight/{k}": v for k, v in metrics.task_weights.items()}
    numbers["gradient_norm"] = metrics.gradient_norm
    line = {name: float(value) for name, value in numbers.items()}
    wrong = [name for name, value in line.items() if not math.isfinite(value)]
    if wrong:
        raise FloatingPointError(
            f"training step {step}: {wrong[0]} is {line[wrong[0]]}; stopped. The last checkpoint saved before it is"
            " intact; try a lower training.learning_rate or training.clip_norm"
        )
    return {"step": step, **line}


def _summary_writer() -> Any:
    """TensorBoard's format without TensorFlow."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError("curves for TensorBoard need tensorboardX: pip install tensorboardX") from None
    return SummaryWriter


def _resumed_lines(path: Path, start: int) -> TextIO:
    """The log, open at its end; lines of steps after `start` (of a run that was killed) are dropped first."""
    kept = []
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= start]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(f"{line}\n" for line in kept))
    temporary.replace(path)
    return path.open("a")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf  # cut short by a crash: drop it
