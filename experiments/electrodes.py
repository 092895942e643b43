"""What bad and missing electrodes cost a detector: `python -m experiments.electrodes OUT --real FOLDER`.

Each electrode in turn is broken in each of eight ways through all of a SIMULATED recording. The events that are still
found are counted against those that were found without the fault. Then electrodes are taken out, from 19 down to 6:
events against what was simulated, and the figures of `experiments.real` where FOLDER is given. Writes
OUT/electrodes.md and electrodes.json.
"""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float32, Float64

from data_tools.simulator.ieds import draw_regions
from data_tools.simulator.patients import draw_profile
from data_tools.simulator.recording import SimulatedRecording, SimulationConfig, simulate_patient
from experiments.pages import number, table, write_page
from experiments.provenance import made_by
from experiments.real.figures import evaluate_scorers
from experiments.real.page import ROWS
from experiments.real.scorers import Scorer, checkpoint_scorer
from siamese_jax import weights
from siamese_jax.checkpoints import Checkpoint, load
from siamese_jax.cli.console import OK, progress_bar, run, use_compilation_cache
from siamese_jax.detection.detect import Detections, detect
from siamese_jax.evaluation.events import match_peaks
from siamese_jax.recordings.recording import Recording, recording_from_array
from siamese_jax.recordings.texts import is_ied
from siamese_jax.vocabulary import TEN_TWENTY

Signal = Float32[np.ndarray, "time"]

SEED = 1_000_000
"""Of the simulated patients: far from those that models learn from."""
TOLERANCE_SECONDS = 0.15

SETS = {
    "all 19": TEN_TWENTY,
    "16: without Fz, Cz, Pz": tuple(name for name in TEN_TWENTY if not name.endswith("z")),
    "12: without F3, F4, P3, P4, Fz, Cz, Pz": tuple("Fp1 Fp2 C3 C4 O1 O2 F7 F8 T3 T4 T5 T6".split()),
    "10: those of a 14-electrode headset": tuple("F3 F4 O1 O2 F7 F8 T3 T4 T5 T6".split()),
    "8: Fp1, Fp2, C3, C4, T3, T4, O1, O2": tuple("Fp1 Fp2 C3 C4 T3 T4 O1 O2".split()),
    "6: those of polysomnography, F3, F4, C3, C4, O1, O2": tuple("F3 F4 C3 C4 O1 O2".split()),
}
"""Electrodes that stay, by name in words."""


# --- faults ------------------------------------------------------------------------------------------------------


def noise(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """White noise of 400 uV on top."""
    return x + rng.normal(0, 400, len(x)).astype(np.float32)


def flat(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """A constant."""
    return np.full_like(x, x[0])


def clipped(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """Twenty times too large and cut at 250 uV."""
    return np.clip(20 * x, -250, 250)


def steps(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """A step of 3 mV every 10 s, which decays within seconds."""
    t = np.arange(len(x)) / sfreq
    return x + (3000 * np.exp(-(t % 10) / 2)).astype(np.float32)


def mains(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """50 Hz of 500 uV."""
    return x + (500 * np.sin(2 * np.pi * 50 * np.arange(len(x)) / sfreq)).astype(np.float32)


def motor_unit(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """Spikes of 150 uV and some 10 ms, about eight a second."""
    onsets = np.cumsum(rng.normal(1 / 8, 0.015, int(len(x) / sfreq * 8)))
    impulses = np.zeros(len(x), np.float32)
    impulses[np.round(onsets * sfreq).astype(int).clip(0, len(x) - 1)] = 150
    t = np.arange(-0.01, 0.01, 1 / sfreq)
    return x + np.convolve(impulses, np.exp(-((t / 0.003) ** 2)), "same").astype(np.float32)


def sway(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """A slow wave of 5 mV, 0.7 Hz: contact comes and goes."""
    return x + (5000 * np.sin(2 * np.pi * 0.7 * np.arange(len(x)) / sfreq)).astype(np.float32)


def too_large(x: Signal, sfreq: float, rng: np.random.Generator) -> Signal:
    """Ten times too large: a wrong gain."""
    return 10 * x


FAULTS: dict[str, Callable[[Signal, float, np.random.Generator], Signal]] = {
    "noise, 400 uV": noise,
    "flat": flat,
    "clipped at 250 uV": clipped,
    "steps of 3 mV": steps,
    "mains, 500 uV": mains,
    "motor unit, 150 uV": motor_unit,
    "sway, 5 mV": sway,
    "10 times too large": too_large,
}


# --- trials ------------------------------------------------------------------------------------------------------


def main(
    out: Annotated[Path, tyro.conf.Positional],
    *,
    checkpoint: Path | None = None,
    real: Path | None = None,
    patients: int = 4,
    minutes: float = 5.0,
    false_per_hour: float = weights.FALSE_PER_HOUR,
) -> int:
    """Break and remove electrodes, and count what a detector still finds.

    Args:
        out: Folder for electrodes.md and electrodes.json.
        checkpoint: The detector; default the model that comes with the package.
        real: Folder of real recordings, as for experiments.real, for the figures with fewer electrodes.
        patients: How many are simulated, all with discharges.
        minutes: Length of each recording.
        false_per_hour: Which operating point gives the threshold of events.
    """
    use_compilation_cache()
    model = load(checkpoint)
    cohort = _simulate(patients, minutes)

    def found(one: SimulatedRecording, eeg: np.ndarray) -> Detections:
        recording = _recording(model, eeg, one)
        return detect(model, recording, false_per_hour=false_per_hour)

    clean = [_peaks(found(one, one.eeg_uv)) for one in cohort]
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    with progress_bar() as progress:
        for i, name in enumerate(TEN_TWENTY):
            progress("breaking electrodes", i, len(TEN_TWENTY))
            counts[name] = {}
            for fault, breaks in FAULTS.items():
                kept = added = 0
                for one, before in zip(cohort, clean, strict=True):
                    eeg = one.eeg_uv.copy()
                    eeg[:, i] = breaks(eeg[:, i], one.sfreq, np.random.default_rng(i))
                    after = _peaks(found(one, eeg))
                    same = len(match_peaks(after, before, tolerance_seconds=TOLERANCE_SECONDS))
                    kept, added = kept + same, added + len(after) - same
                counts[name][fault] = kept, added
    fewer = {words: _with_electrodes(model, cohort, names, false_per_hour) for words, names in SETS.items()}
    if real is not None:
        scorer = checkpoint_scorer(model)
        figures = evaluate_scorers(real, {words: _limited(scorer, names) for words, names in SETS.items()})["figures"]
        for words, own in figures.items():
            fewer[words]["real"] = {key: one["value"] for key, one in own.items() if not key.startswith("eegmat")}
    tree = {
        "what": "Bad and missing electrodes",
        **made_by(shlex.join(["python", "-m", "experiments.electrodes", *sys.argv[1:]])),
        "model": weights.title(model.folder) if model.folder else "",
        "patients": patients,
        "minutes": minutes,
        "false_per_hour": false_per_hour,
        "events_without_fault": sum(map(len, clean)),
        "broken": counts,
        "fewer": fewer,
    }
    write_page(out, "electrodes", tree, page)
    return OK


def _simulate(n: int, minutes: float) -> list[SimulatedRecording]:
    """Patients with discharges, of 19 electrodes at 200 Hz."""
    config = SimulationConfig(minutes=minutes, sfreq=200)
    regions = draw_regions(n, ied_free=0, rng=np.random.default_rng(SEED))
    profiles = [draw_profile(f"SIM{i}", region=region, seed=SEED + i, density=4.0) for i, region in enumerate(regions)]
    return [simulate_patient(profile, config, seed=SEED + i) for i, profile in enumerate(profiles)]


def _recording(model: Checkpoint, eeg: Float32[np.ndarray, "time chan"], one: SimulatedRecording) -> Recording:
    data = model.config.data
    return recording_from_array(
        eeg, sfreq=one.sfreq, ch_names=one.ch_names, target_ch_names=data.ch_names, target_sfreq=data.sfreq
    )


def _peaks(found: Detections) -> Float64[np.ndarray, "event"]:
    return np.array([event.peak_seconds for event in found.events], np.float64)


def _with_electrodes(
    model: Checkpoint, cohort: list[SimulatedRecording], names: tuple[str, ...], false_per_hour: float
) -> dict[str, Any]:
    """Events with some electrodes only, against those that were simulated."""
    absent = [name for name in model.config.data.ch_names if name not in names]
    right = n_marks = n_found = 0
    for one in cohort:
        recording = _recording(model, one.eeg_uv, one)
        peaks = _peaks(detect(model, recording, false_per_hour=false_per_hour, exclude=absent))
        marks = [e.onset_seconds + e.duration_seconds / 2 for e in one.events if is_ied(e.kind)]
        right += len(match_peaks(peaks, np.array(marks, np.float64), tolerance_seconds=TOLERANCE_SECONDS))
        n_marks, n_found = n_marks + len(marks), n_found + len(peaks)
    return {"simulated": n_marks, "found": n_found, "right": right}


def _limited(scorer: Scorer, names: tuple[str, ...]) -> Scorer:
    """A scorer that sees some electrodes only."""

    def score(recording: Recording) -> Any:
        there = recording.present & np.isin(recording.ch_names, names)
        return scorer.score(dataclasses.replace(recording, present=there))

    return dataclasses.replace(scorer, score=score)


# --- page --------------------------------------------------------------------------------------------------------


def page(tree: Mapping[str, Any]) -> str:
    """Two tables in Markdown."""
    total, broken, fewer = tree["events_without_fault"], tree["broken"], tree["fewer"]
    rows = [(name, *(f"{own[fault][0]}, {own[fault][1]} more" for fault in FAULTS)) for name, own in broken.items()]
    means = [sum(own[fault][0] for own in broken.values()) / (max(total, 1) * len(broken)) for fault in FAULTS]
    rows.append(("kept, mean of all electrodes", *(f"{100 * mean:.0f} %" for mean in means)))
    keys = [key for key in ROWS if any(key in own.get("real", {}) for own in fewer.values())]
    head = ("electrodes", "SIMULATED: sensitivity", "precision", *(f"REAL: {ROWS[key].words}" for key in keys))
    lines = [
        (
            words,
            number(own["right"] / max(own["simulated"], 1)),
            number(own["right"] / max(own["found"], 1)),
            *(number(own.get("real", {}).get(key), ROWS[key].digits) for key in keys),
        )
        for words, own in fewer.items()
    ]
    return "\n".join(
        [
            f"# {tree['what']}",
            "",
            f"Model: {tree['model']}, at the threshold fixed for {tree['false_per_hour']:g} false events an hour.",
            "",
            "## One electrode is bad (SIMULATED)",
            "",
            f"{tree['patients']} simulated patients, {tree['minutes']:g} min each, {total} events found without a"
            " fault. How many of these are found with it, within 0.15 s, and how many more.",
            "",
            *table(("electrode", *FAULTS), rows),
            "",
            "## Electrodes are missing",
            "",
            *table(head, lines),
            "",
            f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}.",
            "",
        ]
    )


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
