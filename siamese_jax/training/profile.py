"""A trace of a few training steps: what ran when, on the host and on its devices."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import jax

WARM_UP = 2
"""Steps before the trace: the first compiles, the second may still wait for it."""
TRACED = 5


class Profiler:
    """Traces steps `WARM_UP + 1` to `WARM_UP + TRACED` of a run, or of what is left of it, into `folder`.

    In the trace a step is a span named `train` with its number. Python's own calls are left out: they are thousands a
    step. Nothing but JAX is needed, and no network; `how_to_open` says with what to look at it.
    """

    def __init__(self, folder: Path | None) -> None:
        """Into `folder`, which is made; None traces nothing."""
        self._folder, self._steps, self._traces = folder, 0, False

    def step(self, step: int) -> AbstractContextManager[object]:
        """The context that step number `step` runs in."""
        if self._folder is None:
            return nullcontext()
        if self._steps == WARM_UP:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
            self._traces = True
        if self._steps == WARM_UP + TRACED + 1:  # one later: by now the last of them has left the device
            self.close()
        self._steps += 1
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def close(self) -> None:
        """Write the trace, unless that was done."""
        if self._traces:
            self._traces = False
            jax.profiler.stop_trace()


def how_to_open(folder: Path) -> str:
    """Where the newest trace in `folder` is and what shows it, for a person; or why there is none."""
    traces = sorted(folder.glob("plugins/profile/*/perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not traces:
        return f"no trace in {folder}: it begins after {WARM_UP} steps, and the run had no more to do"
    return (
        f"wrote {traces[-1]}: open it at https://ui.perfetto.dev (it stays in your browser);"
        f" or: pip install xprof, then xprof --logdir {folder}"
    )
