"""An archive of simulated EDFs, prepared and searched while a worker is killed: `python -m experiments.archive OUT`.

One file is broken. Each command runs on two workers, of which one is killed half-way; runs again, with nothing to do;
and runs on one worker into another folder, whose files must be the same bytes. Linux only: workers are found in /proc.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import tyro
from tyro.conf import Positional

from data_tools.simulate import SimulationConfig, simulate_cohort
from experiments.provenance import commit
from siamese_jax.cli import console

RESULTS = Path("experiments/results/archive/archive.md")
LOCK = ".lock"
COMMAND = "from siamese_jax.cli.main import main; main()"


class Run(NamedTuple):
    """One command, and what became of it."""

    seconds: float
    code: int
    killed: int | None
    """Process that was killed."""
    text: str
    """What it printed."""


class Row(NamedTuple):
    """One command: with two workers, again, and with one."""

    task: str
    first: Run
    again: Run
    alone: Run
    n_rewritten: int
    n_files: int
    differing: tuple[str, ...]


def main(
    out: Positional[Path],
    *,
    files: int = 200,
    minutes: float = 2.0,
    checkpoint: Path | None = None,
    results: Path = RESULTS,
) -> int:
    """Run the experiment.

    Args:
        out: Everything lands here; must not exist.
        files: How many recordings.
        minutes: Length of each.
        checkpoint: Search the recordings with it too.
        results: The page to write.
    """
    if out.exists():
        raise ValueError(f"{out} is there already: the experiment begins with an empty folder")
    recordings = out / "recordings"
    simulation = SimulationConfig(minutes=minutes, sfreq=200.0, compression=20.0)
    paths = list(simulate_cohort(recordings, simulation, patients=files))
    broken = paths[len(paths) // 2]
    broken.write_bytes(broken.read_bytes()[:300])
    tasks: dict[str, tuple[tuple[str, ...], str]] = {"prepare": (("prepare", str(recordings), "{out}"), "*.h5")}
    if checkpoint is not None:
        tasks["detect"] = (
            ("detect", str(recordings), "--checkpoint", str(checkpoint), "--out", "{out}"),
            "*_run.json",
        )
    rows = []
    for task, (arguments, finished) in tasks.items():
        alone = out / f"{task}-alone"
        rows.append(examine(task, arguments, finished, (alone, run(arguments, alone)), files))
        print(line(rows[-1]))
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(page(rows, files, minutes, broken.name), encoding="utf-8")
    print(f"wrote {results}")
    return console.NOT_ANALYSED if any(row.differing or row.n_rewritten for row in rows) else console.OK


def examine(task: str, arguments: Sequence[str], finished: str, reference: tuple[Path, Run], files: int) -> Row:
    """Two workers, one of them killed after a third of the files; then again; then compared with one worker's bytes."""
    folder = reference[0].with_name(f"{task}-two")
    first = run(arguments, folder, workers=2, kill=(finished, files // 3))
    written = {path: path.stat().st_mtime_ns for path in folder.rglob(finished)}
    again = run(arguments, folder, workers=2)
    rewritten = [path for path, then in written.items() if path.stat().st_mtime_ns != then]
    ours, theirs = content(folder), content(reference[0])
    differing = tuple(sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)))
    return Row(task, first, again, reference[1], len(rewritten), len(ours), differing)


def run(arguments: Sequence[str], out: Path, *, workers: int = 1, kill: tuple[str, int] | None = None) -> Run:
    """Run a command of siamese-jax; `kill` a worker once that many files of that pattern are there."""
    given = [argument.format(out=out) for argument in arguments]
    command = [sys.executable, "-c", COMMAND, *given, "--workers", str(workers)]
    began, killed = time.monotonic(), None
    with (out.parent / f"{out.name}.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            if kill is not None and killed is None and sum(1 for _ in out.rglob(kill[0])) >= kill[1]:
                killed = kill_a_worker(process.pid)
            time.sleep(0.02)
        seconds = time.monotonic() - began
        log.seek(0)
        text = log.read()
    return Run(seconds, process.returncode, killed, text)


def kill_a_worker(parent: int) -> int | None:
    """Kill one of the processes that multiprocessing spawned; None if there is none yet."""
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(int(child), signal.SIGKILL)
                return int(child)
    return None


def content(folder: Path) -> dict[str, str]:
    """Each file's hash."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def line(row: Row) -> str:
    """A row of the table."""
    same = "all the same bytes" if not row.differing else f"{len(row.differing)} differ: {', '.join(row.differing[:5])}"
    return (
        f"| {row.task} | {row.alone.seconds:.0f} s | {row.first.seconds:.0f} s, exit code {row.first.code}"
        f" | {'yes' if row.first.killed else 'no'} | {row.again.seconds:.0f} s, {row.n_rewritten} written anew"
        f" | {row.n_files} files, {same} |"
    )


def page(rows: Sequence[Row], files: int, minutes: float, broken: str) -> str:
    """The results in Markdown."""
    head = f"""# An archive of {files} SIMULATED recordings

    python -m experiments.archive {" ".join(sys.argv[1:])}

{date.today()}, commit {commit() or "unknown"}, {os.cpu_count()} cores that other work shared: the times say little.

{files} recordings of {minutes:g} min and 19 leads at 200 Hz, of which `{broken}` is cut inside its header. Two workers,
one of them killed (SIGKILL) after a third of the results; the same command again; the same on one worker into another
folder, and every file of both compared.

| command | one worker | two, one killed | killed | again | against one worker |
|---|---|---|---|---|---|
"""
    printed = "".join(f"\n\n{row.task}:\n\n```\n{_brief(row.first.text)}\n```" for row in rows)
    return f"{head}{chr(10).join(map(line, rows))}\n\nWhat the commands printed in the first run:{printed}\n"


def _brief(text: str) -> str:
    """Without the lines of files and shares that went well."""
    kept = [one for one in text.strip().splitlines() if " IEDs in " not in one and " %" not in one[-30:]]
    return "\n".join(kept)


if __name__ == "__main__":
    console.run(lambda: tyro.cli(main))
