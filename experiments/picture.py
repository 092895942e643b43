"""Pictures of simulated recordings: EEG with detected events, stages and IEDs over time, the training of a demo."""

import csv
import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from experiments.figures import write_figure
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.recording import Annotation, Recording
from siamese_jax.recordings.texts import stage_of
from siamese_jax.shards.labels import IED_RULE
from siamese_jax.shards.marks import events_of
from siamese_jax.vocabulary import STAGES, TEN_TWENTY

PAGE_SECONDS = 10.0
SPACING_UV = 120.0
SHOWN_AS = {"W": 4, "R": 3, "N1": 2, "N2": 1, "N3": 0}
"""Height of a stage in a hypnogram, R below W by convention."""


def draw_demo(out: Path, recording_path: Path) -> Path:
    """Draw `demo.png` in the folder of a finished demo; returns its path.

    Args:
        out: with training.jsonl, metrics.json and detection/.
        recording_path: the EDF in which was detected; its annotations say what was simulated.
    """
    recording = read_recording(recording_path, ch_names=TEN_TWENTY, sfreq=200.0)
    events = read_rows(out / "detection" / f"{recording_path.stem}_events.csv")
    hypnogram = read_rows(out / "detection" / f"{recording_path.stem}_hypnogram.csv")
    figure = plt.figure(figsize=(15, 13), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(2.2, 6, 2.2))
    lines = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    _draw_losses(figure.add_subplot(grid[0, 0]), lines)
    _draw_validation(figure.add_subplot(grid[0, 1]), lines, json.loads((out / "metrics.json").read_text()))
    draw_page(figure.add_subplot(grid[1, :]), recording, [float(row["peak"]) for row in events])
    draw_night(figure.add_subplot(grid[2, :]), recording, hypnogram, [float(row["peak"]) for row in events])
    figure.suptitle(f"siamese-jax demo: SIMULATED data; detection in {recording_path.name}, a test patient")
    path = out / "demo.png"
    write_figure(figure, path)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file of `siamese-jax detect`, by column."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _draw_losses(axes: Axes, lines: list[dict[str, float]]) -> None:
    steps = [line["step"] for line in lines if "loss" in line]
    for name in ("loss", "loss/ied", "loss/sleep"):
        values = np.array([line[name] for line in lines if "loss" in line])
        width = max(1, len(values) // 40)
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        axes.plot(steps[width - 1 :], smooth, label=name.replace("loss/", "") if "/" in name else "total")
    axes.set(xlabel="step", ylabel="training loss", title="Training", ylim=(0, None))
    axes.legend()


def _draw_validation(axes: Axes, lines: list[dict[str, float]], figures: dict) -> None:
    measured = [line for line in lines if "validation/ied/auroc" in line]
    test = {
        "IED AUROC": ("validation/ied/auroc", figures["ied"]["auroc"]),
        "IED AUPRC": ("validation/ied/auprc", figures["ied"]["auprc"]),
        "sleep kappa": ("validation/sleep/kappa", figures["sleep"]["kappa"]),
    }
    last = measured[-1]["step"] if measured else 1
    for i, (label, (key, item)) in enumerate(test.items()):
        (line,) = axes.plot([m["step"] for m in measured], [m[key] for m in measured], "o-", label=label)
        if item["value"] is not None and item["low"] is not None:
            error = [[item["value"] - item["low"]], [item["high"] - item["value"]]]
            place = last * (1.06 + 0.04 * i)
            axes.errorbar([place], [item["value"]], error, fmt="s", color=line.get_color(), capsize=3)
    axes.axhline(figures["ied"]["prevalence"], color="grey", lw=0.8, ls=":", label="IED prevalence (test)")
    axes.set(
        xlabel="step",
        title="Validation patients (lines); test patients with 95 % interval (squares)",
        ylim=(0, 1.02),
    )
    axes.legend(loc="lower left", fontsize=8)


def draw_page(axes: Axes, recording: Recording, detected: list[float]) -> None:
    """Draw ten seconds of a simulated recording in common average, negative up, where most discharges were simulated.

    Args:
        axes: to draw in.
        recording: with the simulator's annotations.
        detected: peaks of detected events, in seconds from the recording's start.
    """
    peaks = _simulated(recording)
    length = recording.segments[0].n_times / recording.sfreq
    starts = np.arange(0, max(length - PAGE_SECONDS, 1), 2.0)
    inside = [int(((peaks > s + 0.5) & (peaks < s + PAGE_SECONDS - 0.5)).sum()) for s in starts]
    start = float(starts[int(np.argmax(inside))])
    first, stop = (round(t * recording.sfreq) for t in (start, min(start + PAGE_SECONDS, length)))
    eeg = recording.read(0, first, stop)[:, recording.present]
    eeg = eeg - eeg.mean(1, keepdims=True)
    names = [name for name, there in zip(recording.ch_names, recording.present, strict=True) if there]
    times = start + np.arange(len(eeg)) / recording.sfreq
    for i, name in enumerate(names):
        axes.plot(times, np.median(eeg[:, i]) - eeg[:, i] - i * SPACING_UV, color="black", lw=0.6)
        axes.text(start - 0.05, -i * SPACING_UV, name, ha="right", va="center", fontsize=8)
    for peak in detected:
        if start <= peak <= start + PAGE_SECONDS:
            axes.axvspan(peak - 0.1, peak + 0.1, color="tab:red", alpha=0.25, lw=0)
    shown = [p for p in peaks if start <= p <= start + PAGE_SECONDS]
    axes.plot(shown, [0.9 * SPACING_UV] * len(shown), "v", color="tab:blue", ms=8, clip_on=False)
    _draw_mimics(axes, recording.annotations, start)
    axes.plot([start + 9.9] * 2, [-20.5 * SPACING_UV, -20.5 * SPACING_UV + 100], color="black", lw=2)
    axes.text(start + 9.87, -20.1 * SPACING_UV, "100 µV", ha="right", va="center", fontsize=8)
    axes.set(xlim=(start, start + PAGE_SECONDS), ylim=(-20.7 * SPACING_UV, 1.1 * SPACING_UV), yticks=[])
    title = "SIMULATED EEG, common average, negative up: blue triangle = simulated IED, red = detected"
    axes.set(xlabel="seconds", title=title)


def _simulated(recording: Recording) -> np.ndarray:
    """Where the simulated discharges peak, in seconds."""
    return np.array([event.place_seconds for event in events_of(IED_RULE.marks(recording.annotations))], np.float64)


def _draw_mimics(axes: Axes, annotations: tuple[Annotation, ...], start: float) -> None:
    """Names of what else was simulated on the page."""
    n = 0
    for mark in annotations:
        other = mark.duration_seconds < PAGE_SECONDS and stage_of(mark.text) is None and not mark.text.startswith("IED")
        if other and start < mark.onset_seconds < start + PAGE_SECONDS - 2:
            height = -(19.2 + 0.6 * (n % 3)) * SPACING_UV  # in three rows, so that names do not overlap
            axes.text(mark.onset_seconds, height, mark.text, fontsize=8, color="tab:green", va="center")
            n += 1


def draw_night(axes: Axes, recording: Recording, hypnogram: list[dict[str, str]], detected: list[float]) -> None:
    """Draw sleep stages and IEDs over a simulated recording, as simulated and as detected.

    Args:
        axes: to draw in.
        recording: with the simulator's annotations.
        hypnogram: rows of the hypnogram that `siamese-jax detect` wrote.
        detected: peaks of detected events, in seconds from the recording's start.
    """
    simulated = [(a.onset_seconds, stage_of(a.text)) for a in recording.annotations]
    simulated = [(onset, stage) for onset, stage in simulated if stage is not None]
    axes.step(
        [t / 60 for t, _ in simulated],
        [SHOWN_AS[s] for _, s in simulated],
        where="post",
        lw=6,
        alpha=0.3,
        label="simulated",
    )
    simulated.append(
        (recording.segments[-1].onset_seconds + recording.segments[-1].n_times / recording.sfreq, simulated[-1][1])
    )
    found = [(float(row["onset"]) / 60, SHOWN_AS[row["stage"]]) for row in hypnogram]
    found.append((found[-1][0] + float(hypnogram[-1]["duration"]) / 60, found[-1][1]))
    axes.step(*zip(*found, strict=True), where="post", color="black", lw=1.3, label="found")
    peaks = _simulated(recording)
    axes.plot(peaks / 60, [4.6] * len(peaks), "|", color="tab:blue", ms=12, label="simulated IED")
    axes.plot(np.array(detected) / 60, [5.1] * len(detected), "|", color="tab:red", ms=12, label="detected IED")
    axes.set(xlabel="minutes", yticks=[SHOWN_AS[s] for s in STAGES], yticklabels=STAGES, ylim=(-0.4, 5.6))
    axes.set(title="SIMULATED: sleep stages and IEDs over the recording")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=4)
