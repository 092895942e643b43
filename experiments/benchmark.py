"""How fast and how large: training windows per second, detection as a multiple of real time, peak memory.

    python -m experiments.benchmark detect --checkpoint runs/demo/checkpoint --hours 1
    python -m experiments.benchmark train --shards runs/demo/shards --devices 2
    python -m experiments.benchmark step --shards SHARDS --preset paper --batch-size 8 --dtype bfloat16 --remat

Each measurement runs in a process of its own, so that nothing else counts towards its memory. Imports little for the
same reason.
"""

import dataclasses
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from siamese_jax.config.experiment import Config


def detect(*, checkpoint: Path, hours: float = 1.0, hop: float = 1.0, out: Path | None = None) -> None:
    """Detects in a simulated recording of 29 leads at 500 Hz; prints speed and peak memory.

    Args:
        checkpoint: From `siamese-jax train`.
        hours: Length of the recording.
        hop: Seconds from one window to the next.
        out: Keep recording and results here; default a temporary folder.
    """
    folder = out or Path(tempfile.mkdtemp())
    simulate = ["-m", "data_tools.simulate", str(folder), "--patients", "1", "--ied-free", "0"]
    _run([*simulate, "--minutes", f"{60 * hours:g}", "--sfreq", "500", "--leads", "29"])
    command = ["-m", "siamese_jax.cli.main", "detect", str(folder / "SIM0001.edf"), "--checkpoint", str(checkpoint)]
    seconds, megabytes, output = _run([*command, "--hop", f"{hop:g}", "--out", str(folder / "detection")])
    found = next(line for line in output.splitlines() if " IEDs in " in line)
    print(
        f"{found}\n{hours:g} h of 29 leads at 500 Hz, hop {hop:g} s: {seconds:.1f} s, {3600 * hours / seconds:.0f}"
        f" times real time (start-up, compilation, reading and writing included), peak memory {megabytes:.0f} MB"
    )
    if out is None:
        shutil.rmtree(folder)


def train(*, shards: Path, devices: int = 1, steps: int = 60, parallel: str = "pmap") -> None:
    """Train a few steps of `small`; prints windows per second without compilation, and peak memory.

    Args:
        shards: From `siamese-jax prepare`.
        devices: How many are forced.
        steps: How many.
        parallel: pmap or shard_map.
    """
    with tempfile.TemporaryDirectory() as run:
        options = {"steps": steps, "warmup-steps": 1, "evaluate-every": 10**6, "checkpoint-every": 10**6}
        texts = [text for name, value in options.items() for text in (f"--training.{name}", str(value))]
        command = ["-m", "siamese_jax.cli.main", "train", str(shards), run, "--devices", str(devices)]
        _, megabytes, output = _run([*command, *texts, "--training.parallel", parallel])
    (rate,) = re.findall(r"; (\d+) windows/s", output)
    print(
        json.dumps(
            {
                "devices": devices,
                "parallel": parallel,
                "steps": steps,
                "windows_per_second": int(rate),
                "peak_megabytes": round(megabytes),
            }
        )
    )


def step(
    *,
    shards: Path,
    preset: Literal["small", "paper"] = "paper",
    batch_size: int = 8,
    steps: int = 10,
    devices: int = 1,
    parallel: Literal["pmap", "shard_map"] = "pmap",
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    accumulate: int = 1,
) -> None:
    """Some training steps and nothing else: time to compile, time of a step, memory, losses; one JSON line.

    Args:
        shards: From `siamese-jax prepare --preset PRESET`.
        preset: small or paper.
        batch_size: Windows a step, on all devices together.
        steps: How many.
        devices: How many are forced.
        parallel: pmap or shard_map.
        dtype: Of the branches.
        remat: Compute activations again in the backward pass.
        accumulate: Micro-batches that a batch is cut into.
    """
    from siamese_jax.config.presets import PRESETS

    config = PRESETS[preset]
    training = dataclasses.replace(
        config.training, batch_size=batch_size, accumulate=accumulate, parallel=parallel, steps=1000, warmup_steps=5
    )
    model = dataclasses.replace(config.model, dtype=dtype, remat=remat)
    print(
        json.dumps(measure_steps(dataclasses.replace(config, model=model, training=training), shards, steps, devices))
    )


def measure_steps(config: "Config", shards: Path, steps: int, devices: int) -> dict[str, Any]:
    """What `steps` training steps on SHARDS/train need, in this process; megabytes are 10^6 bytes.

    `temporary_megabytes` is what XLA sets aside for a step besides its arguments, on each device; `peak_megabytes` is
    of the whole process, compilation included.
    """
    import jax

    from siamese_jax.shards.batches import stream, task_specs
    from siamese_jax.shards.schema import open_shards
    from siamese_jax.training.parallel import choose_devices, data_parallel
    from siamese_jax.training.step import create_state

    chosen, opened = choose_devices(devices), tuple(open_shards(shards / "train"))
    tasks = task_specs(opened, config)
    jax.clear_caches()  # what was compiled before would cost nothing
    parallel, state = data_parallel(config, tasks, chosen), create_state(config, tasks)
    state = parallel.place_state(state)
    losses, seconds = [], []
    with closing(stream(opened, config, seed=config.training.seed, rows=parallel.rows)) as batches:
        placed = parallel.place(next(batches))
        began = time.monotonic()
        compiled = parallel.step.lower(state, placed).compile()
        compile_seconds = time.monotonic() - began
        for _ in range(steps):
            began = time.monotonic()
            state, metrics = compiled(state, placed)
            losses.append(float(metrics.loss))  # waits for the step
            seconds.append(time.monotonic() - began)
            placed = parallel.place(next(batches))
    # The first step also fills memory for the first time.
    typical = statistics.median(seconds[1:] or seconds)
    return {
        "batch_size": config.training.batch_size,
        "accumulate": config.training.accumulate,
        "dtype": config.model.dtype,
        "remat": config.model.remat,
        "devices": devices,
        "parallel": config.training.parallel,
        "compile_seconds": round(compile_seconds, 1),
        "seconds_per_step": round(typical, 3),
        "windows_per_second": round(config.training.batch_size / typical, 2),
        "temporary_megabytes": round(compiled.memory_analysis().temp_size_in_bytes / 1e6),
        "peak_megabytes": round(_megabytes(resource.getrusage(resource.RUSAGE_SELF))),
        "losses": [round(loss, 3) for loss in losses],
    }


def _run(arguments: list[str]) -> tuple[float, float, str]:
    """Seconds, peak megabytes and standard output of `python ARGUMENTS`."""
    began = time.monotonic()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return time.monotonic() - began, _megabytes(usage), output


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"detect": detect, "train": train, "step": step})
