"""The README of an exported bundle: what the model is, what it was trained on, what it scored, how to run it."""

import math
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import version
from typing import Any

import jax

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.files import plain
from siamese_jax.models.build import chosen_tasks

CONTENTS = {
    "model.stablehlo": "the program: probabilities from microvolts, for cpu, cuda and tpu, parameters inside",
    "model.onnx": "the same for ONNX runtimes",
    "interface.json": "inputs, outputs, electrodes, rates, classes, thresholds",
    "golden.safetensors": "inputs, and the outputs that the training library gives for them",
    "run.py": "loads the programs, and checks them against the golden outputs",
    "parameters.safetensors": "parameters and batch statistics, averaged over training",
    "config.json": "the whole configuration",
    "identity.json": "what it learnt from: salted hashes of patients, digests of recordings and shards",
    "operating_points.json": "thresholds, and what they were fixed on",
}

RUN = """```python
import jax, numpy as np  # pip install jax flatbuffers
from jax import export

program = export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
predict = jax.jit(program.call)
eeg = np.zeros((1, {n_times}, {n_chans}), np.float32)  # microvolts at {sfreq:g} Hz, [batch, time, chan]
present = np.ones((1, {n_chans}), bool)  # which electrodes were recorded, [batch, chan]
probabilities = predict(eeg, present)  # {outputs}
```"""

USAGE_NOTE = """`python run.py` checks this on your machine. The programs take batches of one window or more; `load` of
`run.py` takes an empty one too. A StableHLO or ONNX file is a program: run it if you trust whoever gave it to you.
`siamese-jax detect --checkpoint` takes this folder and reads the parameters alone."""

LIMITS = """Probabilities are not calibrated for a clinic's prevalence. Other amplifiers, electrodes, ages and
conditions than those it was trained and tested on may give anything. It has seen no artefact that its training
recordings lacked."""


def model_card(
    checkpoint: Checkpoint,
    figures: Mapping[str, Any],
    *,
    files: Mapping[str, int],
    errors: Mapping[str, Mapping[str, float]],
    interface: Mapping[str, Any],
) -> str:
    """Markdown.

    Args:
        checkpoint: that was exported.
        figures: of `siamese-jax evaluate`; empty if there are none.
        files: bytes by name.
        errors: for each program, the largest difference in log-odds from `forward`, by output.
        interface: what `interface.json` holds.
    """
    data, has_both = checkpoint.config.data, {"ied", "sleep"} <= set(checkpoint.config.tasks)
    usage = RUN.format(
        n_times=checkpoint.config.n_times + 2 * checkpoint.config.margin,
        n_chans=len(data.ch_names),
        sfreq=data.sfreq,
        outputs=", ".join(errors["model.stablehlo"]),
    )
    contents = ((name, f"{size / 1e3:,.0f}", CONTENTS.get(name, "")) for name, size in files.items())
    measured = ((name, out, f"{e:.1e}") for name, by_output in errors.items() for out, e in by_output.items())
    sections = (
        "# Siamese-ES for EEG: IEDs and sleep" if has_both else "# Siamese-ES for EEG",
        "**Research use only. Not a medical device.** Whoever runs it must review what it finds.",
        _trained_on(checkpoint.trained_on),
        "## What it is",
        _description(checkpoint),
        interface["not_finite"],
        "## Run it",
        usage,
        USAGE_NOTE,
        "## What it scored",
        _figures(figures),
        "## Thresholds",
        _points(checkpoint),
        "## Limits",
        LIMITS,
        "## Files",
        _table(("file", "kB", ""), contents),
        "Each program was run in a process without Flax and siamese-jax. Largest difference from the golden outputs in"
        f" log-odds, over batches of several sizes (allowed: {interface['tolerance']:g}):",
        _table(("program", "output", "difference"), measured),
        f"Exported {date.today()} by siamese-jax {version('siamese-jax')}, jax {version('jax')}. Network after"
        " Siamese-ES (Natl Med J China 2025, 10.3760/cma.j.cn112137-20250116-00141).",
    )
    return "\n\n".join(sections) + "\n"


def _description(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    data, band_hz = config.data, config.preprocess.eeg_band_hz
    n_parameters = sum(x.size for x in jax.tree.leaves(checkpoint.variables["params"]))
    rows = (
        ("electrodes, in order", " ".join(data.ch_names)),
        ("rate", f"{data.sfreq:g} Hz"),
        ("samples", f"{config.n_times} and {config.margin} on either side"),
        ("EEG band", " to ".join("any" if hz is None else f"{hz:g} Hz" for hz in band_hz)),
        *((f"task `{t.name}`", f"{t.kind}: {', '.join(t.classes)}") for t in chosen_tasks(config, checkpoint.tasks)),
        ("frames, if any", f"one every {config.frame_seconds:g} s, the first at the window's start"),
    )
    return (
        f"A convolutional network (`{config.model.title}`, {n_parameters:,} parameters, {checkpoint.step} training"
        f" steps) that takes {data.window_seconds:g} s of scalp EEG with {config.margin / data.sfreq:g} s of signal on"
        " either side. Filter, montage and frequency-temporal transform are inside: it takes raw microvolts."
        f"\n\n{_table(('', ''), rows)}"
    )


def _trained_on(sources: tuple[str, ...]) -> str:
    text = "Trained on: " + ("; ".join(map(_cell, sources)) or "not known") + "."
    if any("simulat" in source.lower() for source in sources):
        text += " **Simulated signals are among them: figures on such say nothing about real recordings.**"
    return text


def _figures(figures: Mapping[str, Any]) -> str:
    rows = list(_intervals(figures, ()))
    if not rows:
        return "No figures lay beside the checkpoint: `siamese-jax evaluate` writes them."
    about = [f"{figures[key]} {key}" for key in ("patients", "windows") if isinstance(figures.get(key), int)]
    sources = figures.get("data")
    if isinstance(sources, list):
        about.append("of " + "; ".join(_cell(str(source)) for source in sources))
    known = {"training_patients": "the model learnt from", "threshold_patients": "thresholds were fixed on"}
    warnings = [f" **{what} {figures[key]} of these patients.**" for key, what in known.items() if figures.get(key)]
    table = _table(("figure", "value", "interval", "patients"), rows)
    return ", ".join(about) + f"; 95 % bootstrap over patients.{''.join(warnings)}\n\n{table}"


def _intervals(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    """Every `{value, low, high}` in what `evaluate` wrote, named by its keys."""
    if not isinstance(tree, Mapping):
        return
    if {"value", "low", "high"} <= set(tree):
        limits = (tree["low"], tree["high"])
        interval = "not defined" if None in limits else " to ".join(map(_number, limits))
        yield ", ".join(path), _number(tree["value"]), interval, str(tree.get("n_patients", "-"))
        return
    for key, item in tree.items():
        yield from _intervals(item, (*path, str(key)))


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float | int) and math.isfinite(value) else "-"


def _points(checkpoint: Checkpoint) -> str:
    if checkpoint.thresholds is None:
        return "None were fixed: `siamese-jax fix-thresholds` does that."
    points = checkpoint.points
    rows = ((p.task, p.criterion, _number(p.threshold), _number(p.sensitivity), _number(p.precision)) for p in points)
    table = _table(("task", "criterion", "threshold", "sensitivity", "precision"), rows)
    return f"{table}\n\nThey were {_cell(checkpoint.thresholds.text())}; rates are of those patients."


def _table(header: tuple[str, ...], rows: Any) -> str:
    lines = [header, tuple("---" for _ in header), *(tuple(_cell(cell) for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot leave its place: words of a recording's source or a task's name are anybody's."""
    return plain(text).replace("|", "/").replace("<", "(").replace(">", ")")[:500]
