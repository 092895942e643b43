"""Is simulated EEG like real EEG? A page of figures that says where it is, and where not.

    python -m experiments.simulator FOLDER_OF_DREAMS EEGLAB.edf

simulates a cohort and holds it against sleep of DREAMS and wakefulness of the EEGLAB sample. Everything is measured by
the same code on both sides. Whoever works on the simulator may look at subjects 2 and 4 and the first half of the
EEGLAB sample (`--subjects 2 4 --half 0`); what is reported is the rest, which nobody has tuned on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.progress import track

from experiments.pages import write_page
from experiments.provenance import made_by
from experiments.runner import Runner
from experiments.simulator import comparison, events
from experiments.simulator.data import (
    DERIVATIONS,
    SHARED_ELECTRODES,
    Cohort,
    Night,
    dreams_night,
    eeglab_channels,
    simulated,
    simulated_channels,
    simulated_night,
)
from experiments.simulator.figures import draw_figures
from experiments.simulator.page import page
from siamese_jax.cli.console import OK, run
from siamese_jax.vocabulary import LEADS_29, STAGES, channel_kind

TUNED_ON = (2, 4)
"""Of DREAMS: never reported, but stages of the others are found with their help."""
SFREQ = 200.0
"""Of the simulated cohort: the fastest of DREAMS."""
WAKE_SECONDS, LEAST_WAKE_SECONDS = 120, 40
"""As much of each simulated patient's wakefulness as half of the EEGLAB sample lasts; whoever has less than 40 s is
left out."""
EEG_LEADS = tuple(name for name in LEADS_29 if channel_kind(name) == "eeg")


def main(
    dreams: Annotated[Path, tyro.conf.Positional],
    eeglab: Annotated[Path, tyro.conf.Positional],
    *,
    out: Path = Path("experiments/results/simulator"),
    work: Path = Path("runs/simulator"),
    subjects: tuple[int, ...] = (1, 3, 6, 8),
    half: Literal[0, 1] = 1,
    patients: int = 12,
    minutes: float = 75.0,
    seed: int = 0,
    draws: int = 40,
) -> int:
    """Simulate, measure, write OUT/simulator.json, simulator.md and the figures.

    Args:
        dreams: The text files of DREAMS.
        eeglab: The EEGLAB sample as EDF.
        out: The page lands here.
        work: The simulated recordings land here; what this very simulator made before is taken.
        subjects: Of DREAMS, to be compared with.
        half: Of the EEGLAB sample, to be compared with.
        patients: Size of the simulated cohort.
        minutes: Length of each simulated recording.
        seed: Of the cohort and of every draw here.
        draws: How often what no difference looks like is drawn.
    """
    rng = np.random.default_rng(seed)
    missing = [path for path in (dreams, eeglab) if not path.exists()]
    if missing:
        raise ValueError(f"{missing[0]} does not exist")
    real = [dreams_night(dreams, subject) for subject in subjects]
    electrodes, electrode_rate = eeglab_channels(eeglab, half=half)
    common = f"--recording night --leads 29 --compression 1 --seed {seed}"
    size = f"--patients {patients} --minutes {minutes:g} --sfreq {SFREQ:g}"
    runner = Runner(work)
    cohort = simulated(runner, f"{size} --workers 2 {common}")
    speed = simulated(runner, f"--patients 2 --minutes {min(minutes, 30):g} --sfreq 500 {common}")
    nights = {name: [simulated_night(p, name, SFREQ) for p in track(cohort.paths, name)] for name in DERIVATIONS}
    tree = _about(dreams, eeglab, cohort, real, half, {"seed": seed, "draws": draws}, nights)
    tree["spectra"] = comparison.compare_spectra(nights, real)
    tree["spindles"] = comparison.compare_spindles(nights, real)
    tree["slow_waves"] = comparison.compare_slow_waves(nights, real)
    tree["events"], tree["discharges"] = measure_events(cohort, rng)
    tree["ied_windows"] = _ied_windows(cohort, nights["Cz-A1"])
    wake = list(_wakefulness(cohort, electrode_rate))
    if not wake:
        raise ValueError(f"no simulated patient is awake for {LEAST_WAKE_SECONDS} s: simulate more of them, or longer")
    tree["fields"] = comparison.compare_fields(wake, electrodes, electrode_rate, SHARED_ELECTRODES)
    tree["fields"]["patients"] = len(wake)
    tree["stages"] = _stages(dreams, subjects, nights["Cz-A1"], draws=max(draws // 4, 2), rng=rng)
    tree["unrest"] = comparison.compare_unrest(nights["Cz-A1"], real)
    tree["apart"] = _apart(nights, real, draws=draws, rng=rng)
    tree["cost"] = {"command": speed.command, **speed.cost}
    draw_figures(out, write_page(out, "simulator", _rounded(tree), page))
    return OK


def measure_events(cohort: Cohort, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """The table of every kind of event of a cohort, and the mean discharges of its patients by kind."""
    by_patient: dict[str, list[events.Placed]] = {}
    for row in cohort.events():
        by_patient.setdefault(row["patient"], []).append(events.placed(row))
    per_patient = -(-events.MOST_EVENTS // max(len(by_patient), 1))
    measured: dict[str, dict[str, list[float]]] = {}
    discharges: dict[str, list[dict[str, float]]] = {}
    for path in track(cohort.paths, "events"):
        own = by_patient.get(path.stem, [])
        eeg, stages = simulated_channels(path, EEG_LEADS, SFREQ)
        for kind in sorted({event.kind for event in own}):
            of_kind = [event for event in own if event.kind == kind]
            found = measured.setdefault(kind, {name: [] for name in _EVENT_LISTS})
            chosen = events.spread(of_kind, per_patient)
            for name, values in events.measure(eeg, SFREQ, EEG_LEADS, chosen).items():
                found[name] += values
            found["put_in_uv"] += [event.amplitude_uv for event in of_kind]
            found["seconds"] += [event.seconds for event in of_kind]
            quiet = events.elsewhere(chosen, own, stages, STAGES, rng)
            found["background_uv"] += events.measure(eeg, SFREQ, EEG_LEADS, quiet)["amplitude_uv"] if quiet else []
            if kind.startswith("IED"):
                discharges.setdefault(kind, []).extend(_mean_discharges(eeg, path.stem, of_kind))
    return events.table(measured), discharges


_EVENT_LISTS = ("put_in_uv", "amplitude_uv", "background_uv", "seconds", "wave_seconds", "hz")


def _mean_discharges(eeg: np.ndarray, patient: str, of_kind: list[events.Placed]) -> Iterable[dict[str, Any]]:
    """Of discharges that stand alone: what follows within 0.7 s would be averaged in."""
    onsets = np.array([-np.inf, *(event.onset for event in of_kind), np.inf])
    alone = (np.diff(onsets) > 0.7)[:-1] & (np.diff(onsets) > 0.7)[1:]
    single = [e for e, is_alone in zip(of_kind, alone, strict=True) if is_alone and e.seconds < 1]
    single = [event for event in single if event.channel in EEG_LEADS]
    for channel in sorted({event.channel for event in single}):
        peaks = [event.onset + event.seconds / 2 for event in single if event.channel == channel]
        found = events.mean_discharge(eeg[:, EEG_LEADS.index(channel)], SFREQ, peaks)
        if found is not None:
            yield {"patient": patient, "channel": channel, "n": len(peaks), **found._asdict()}


def _ied_windows(cohort: Cohort, nights: list[Night]) -> dict[str, Any]:
    """Share of 4-s windows with a discharge, awake and asleep; and how discharges stand out."""
    discharges = [row for row in cohort.events() if row["kind"].startswith("IED")]
    peaks: dict[str, list[events.Placed]] = {}
    for row in discharges:
        peaks.setdefault(row["patient"], []).append(events.placed(row))
    counted = [events.windows_with(peaks.get(night.name, []), night.stages) for night in nights]
    awake, asleep = np.sum(counted, axis=0)
    snr = [float(row["snr"]) for row in discharges]
    return {
        "wake": float(awake[1] / max(awake[0], 1)),
        "sleep": float(asleep[1] / max(asleep[0], 1)),
        "all": float((awake + asleep)[1] / max((awake + asleep)[0], 1)),
        "patients_with": len(peaks),
        "snr": np.percentile(snr, comparison.QUANTILES).tolist() if snr else None,
    }


def _wakefulness(cohort: Cohort, sfreq: float) -> Iterable[np.ndarray]:
    """The first two minutes awake of every simulated patient, as far as there are."""
    for path in track(cohort.paths, "electrodes"):
        eeg, stages = simulated_channels(path, SHARED_ELECTRODES, sfreq)
        rate = round(sfreq)
        seconds = np.flatnonzero(stages == STAGES.index("W"))[:WAKE_SECONDS]
        if len(seconds) >= LEAST_WAKE_SECONDS:
            yield np.concatenate([eeg[s * rate : (s + 1) * rate] for s in seconds.tolist()])


def _stages(dreams: Path, subjects: tuple[int, ...], nights: list[Night], **options: Any) -> dict[str, Any]:
    everyone = {subject: dreams_night(dreams, subject) for subject in sorted({*subjects, *TUNED_ON})}
    staged = [subject for subject, night in everyone.items() if night.sfreq >= comparison.COMMON_HZ]
    people = [comparison.epochs_of(everyone[subject]) for subject in staged]
    tested = [staged.index(subject) for subject in subjects if subject in staged]
    tree = comparison.compare_stages([comparison.epochs_of(n) for n in nights], people, tested, **options)
    return {"trained_on": staged, "tested": [staged[i] for i in tested], **tree}


def _apart(nights: dict[str, list[Night]], real: list[Night], *, draws: int, rng: np.random.Generator) -> dict:
    """Simulated patients take turns in which real person's derivation they are seen through."""
    used = [night for night in real if night.sfreq >= comparison.COMMON_HZ]
    chosen = [nights[used[i % len(used)].ch_name][i] for i in range(len(nights[DERIVATIONS[0]]))]
    tree = comparison.tell_apart(comparison.windows_of(chosen + used, rng), draws=draws, rng=rng)
    tree["people"] = [night.name for night in used]
    fast = [night for night in used if night.sfreq == SFREQ]
    if fast:
        seen = [nights[fast[i % len(fast)].ch_name][i] for i in range(len(chosen))]
        tree["recorder"] = comparison.recorder_traces(comparison.windows_of(seen + fast, rng, recorder=True))
        tree["recorder_people"] = [night.name for night in fast]
    return tree


def _about(
    dreams: Path,
    eeglab: Path,
    cohort: Cohort,
    real: list[Night],
    half: int,
    settings: dict[str, Any],
    nights: dict[str, list[Night]],
) -> dict[str, Any]:
    minutes = {
        night.name: {stage: int((night.stages == i).sum()) / 60 for i, stage in enumerate(STAGES)}
        for night in [*nights["Cz-A1"], *real]
    }
    return {
        "what": "SIMULATED EEG (data_tools.simulate) compared with REAL EEG (DREAMS sleep spindles, EEGLAB sample)",
        **made_by("python -m experiments.simulator FOLDER_OF_DREAMS EEGLAB.edf"),
        "settings": settings,
        "simulated": {"command": cohort.command, "patients": len(cohort.paths), "cost": cohort.cost},
        "real": {"folder": dreams.name, "subjects": [n.name for n in real], "eeglab": eeglab.name, "half": half + 1},
        "frequency_step_hz": 0.25,
        "minutes": minutes,
    }


def _rounded(tree: Any) -> Any:
    """Every number with four digits that count."""
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_rounded(value) for value in tree]
    return float(f"{tree:.4g}") if isinstance(tree, float) else tree


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
