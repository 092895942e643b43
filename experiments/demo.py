"""`make demo`: every step once, on simulated recordings, in minutes on two cores.

    detect with the model of the package, in `make demo RECORDING=your.edf` or else in a simulated recording
    simulate -> prepare -> train -> fix-thresholds -> evaluate -> detect -> one picture

Every step but the first and the last is the command that a researcher types for their own recordings; the demo prints
each before it runs it.
"""

import csv
import json
import shlex
import shutil
import time
from pathlib import Path

import tyro

from data_tools.simulate import SimulationConfig, simulate_cohort
from experiments.picture import draw_demo
from siamese_jax.cli import console
from siamese_jax.cli import main as cli
from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import SMALL

PATIENTS, MINUTES, SEED = 40, 10.0, 0
STEPS = 1000
SOURCE = "SIMULATED recordings (data_tools.simulate)"


def main(
    out: Path = Path("runs/demo"),
    *,
    recording: Path | None = None,
    devices: int | None = None,
    patients: int = PATIENTS,
    minutes: float = MINUTES,
    steps: int = STEPS,
) -> int:
    """Run the demo.

    Args:
        out: Everything lands here; what an earlier demo left is replaced.
        recording: A recording of yours, in which the model of the package looks for IEDs first.
        devices: How many devices to train on; default all there are. On a CPU, N devices are forced.
        patients: Size of the simulated cohort.
        minutes: Length of each recording.
        steps: Of training.
    """
    began = time.monotonic()
    if out.exists():
        _clear(out)
    recordings, shards, checkpoint, detection, packaged = (
        out / name for name in ("recordings", "shards", "checkpoint", "detection", "detection-of-the-package")
    )
    if recording is not None:
        _detect(recording, packaged)
    print("Everything that follows is SIMULATED: the figures show that the steps work, not clinical accuracy.\n")

    _show(f"python -m data_tools.simulate {recordings} --patients {patients} --minutes {minutes:g} --seed {SEED}")
    simulation = SimulationConfig(minutes=minutes)
    with console.progress_bar() as progress:
        for i, _ in enumerate(simulate_cohort(recordings, simulation, patients=patients, seed=SEED), 1):
            progress("simulating", i, patients)
    print(f"{patients} simulated recordings of {minutes:g} min in {recordings}")
    if recording is None:
        _detect(recordings / "SIM0001.edf", packaged)

    _show(f"siamese-jax prepare {recordings} {shards} --source {shlex.quote(SOURCE)}")
    _check_exit_code(cli.prepare(recordings, shards, source=SOURCE))

    options = _training_options(steps)
    forced = f" --devices {devices}" if devices else ""
    _show(f"siamese-jax train {shards} {out}{forced} {shlex.join(options)}")
    _check_exit_code(cli.train(shards, out, _config(options), devices=devices))

    _show(f"siamese-jax fix-thresholds {checkpoint} {shards}")
    _check_exit_code(cli.fix_thresholds(checkpoint, shards))

    _show(f"siamese-jax evaluate {checkpoint} {shards}")
    _check_exit_code(cli.evaluate(checkpoint, shards))

    unseen = _unseen_recording(recordings, shards)
    _show(f"siamese-jax detect {unseen} --checkpoint {checkpoint} --out {detection}")
    _check_exit_code(cli.detect((unseen,), checkpoint=checkpoint, out=detection))

    print(_summary(out, draw_demo(out, unseen), (time.monotonic() - began) / 60))
    return console.OK


def _detect(recording: Path, out: Path) -> None:
    """What the model of the package finds."""
    _show(f"siamese-jax detect {shlex.quote(str(recording))} --out {out}")
    _check_exit_code(cli.detect((recording,), out=out))


def _summary(out: Path, picture: Path, minutes: float) -> str:
    return f"""
Done in {minutes:.1f} min. All data but yours are SIMULATED.
  recordings  {out / "recordings"}  (EDF+ with annotations; events.csv and patients.csv hold the truth)
  shards      {out / "shards"}
  checkpoint  {out / "checkpoint"}
  figures     {out / "metrics.json"}
  detection   {out / "detection"}, and {out / "detection-of-the-package"} by the model of the package
  picture     {picture}
Next:
  siamese-jax info YOUR.edf
  siamese-jax detect YOUR.edf --out detection
  siamese-jax prepare YOUR_FOLDER YOUR_SHARDS && siamese-jax train YOUR_SHARDS runs/mine"""


def _clear(out: Path) -> None:
    """Remove an earlier demo, and nothing that is not one."""
    known = {".lock", "recordings", "shards", "checkpoint", "training.jsonl", "metrics.json", "demo.png"}
    known |= {"detection", "detection-of-the-package"}
    strange = sorted(path.name for path in out.iterdir() if path.name not in known)
    if strange:
        raise ValueError(f"{out} holds {', '.join(strange)}, which no demo made: name another folder")
    shutil.rmtree(out)


def _training_options(steps: int) -> list[str]:
    every = max(steps // 4, 1)
    numbers = {
        "steps": steps,
        "warmup-steps": steps // 10,
        "evaluate-every": every,
        "checkpoint-every": every,
    }
    return [text for name, value in numbers.items() for text in (f"--training.{name}", str(value))]


def _config(options: list[str]) -> Config:
    """What `siamese-jax train ... OPTIONS` makes of the options."""
    return tyro.cli(Config, default=SMALL, args=options)


def _unseen_recording(recordings: Path, shards: Path) -> Path:
    """The test patient's file with the most IEDs."""
    used = json.loads((shards / "prepare.json").read_text())["used"]
    tested = {Path(file["name"]).stem for file in used if file["split"] == "test"}
    with (recordings / "patients.csv").open(newline="") as file:
        n_ied = {row["patient"]: int(row["n_ied"]) for row in csv.DictReader(file)}
    return recordings / f"{max(sorted(tested), key=lambda name: n_ied[name])}.edf"


def _show(command: str) -> None:
    print(f"\n$ {command}")


def _check_exit_code(code: int) -> None:
    if code != console.OK:
        raise SystemExit(code)


if __name__ == "__main__":
    console.run(lambda: tyro.cli(main))
