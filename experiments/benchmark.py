"""How fast and how large: training windows per second, detection as a multiple of real time, peak memory.

    python -m experiments.benchmark detect --checkpoint runs/demo/checkpoint --hours 1
    python -m experiments.benchmark train --shards runs/demo/shards --devices 2

Each measurement runs in a process of its own, so that nothing else counts towards its memory. Imports little for the
same reason.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro


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
    seconds, megabytes, said = _run([*command, "--hop", f"{hop:g}", "--out", str(folder / "detection")])
    found = next(line for line in said.splitlines() if " IEDs in " in line)
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
        command = ["-m", "siamese_jax.cli.main", "train", str(shards), run, "--devices", str(devices), "small"]
        _, megabytes, said = _run([*command, *texts, "--training.parallel", parallel])
    (rate,) = re.findall(r"; (\d+) windows/s", said)
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


def _run(arguments: list[str]) -> tuple[float, float, str]:
    """Seconds, peak megabytes and standard output of `python ARGUMENTS`."""
    began = time.monotonic()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return time.monotonic() - began, _megabytes(usage), said


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"detect": detect, "train": train})
