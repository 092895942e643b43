"""What was found in each subject, as figures, a table and one picture."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from experiments.figures import write_figure
from experiments.pages import number, table, write_page
from experiments.provenance import made_by
from experiments.sleep.data import EPOCH_SECONDS
from experiments.sleep.excerpts import ScoredExcerpt, write_tables
from experiments.sleep.networks import Trained
from experiments.sleep.scoring import LEAST_OVERLAP, in_nrem
from siamese_jax.evaluation import metrics
from siamese_jax.evaluation.events import pool_counts
from siamese_jax.evaluation.statistics import draws
from siamese_jax.files import finite
from siamese_jax.vocabulary import SLEEP, STAGES

RESAMPLES = 1000
HEIGHT = {"W": 4, "R": 3, "N1": 2, "N2": 1, "N3": 0}
SHOWN_SECONDS, SHOWN = 15.0, 3
YASA_SUBJECTS = [1, 2, 4, 6, 8]
YASA = (
    "YASA 0.8.1 on the same recordings, subjects 1, 2, 4, 6, 8, measured beside this: staging accuracy 0.790, Cohen's"
    " kappa 0.668, macro-F1 0.589 of five stages, 0.737 of the four that are true (0.787, 0.663, 0.580 by an earlier"
    " measurement); spindles in N1 to N3, default settings: F1 0.321 against all marks, 0.348 against marks there."
    " Expert 2 against expert 1 on 1, 2, 4, 6: F1 0.454 (durations of expert 2 are fixed to 1 s)."
)
RATES: dict[str, Callable[[Float64[np.ndarray, "class class"]], float]] = {
    "accuracy": metrics.accuracy,
    "kappa": metrics.cohen_kappa,
    "macro_f1": metrics.macro_f1,
    "macro_f1_of_5": lambda matrix: float(np.nan_to_num(metrics.class_f1(matrix)).mean()),
}


COLUMNS = ("accuracy", "kappa", "macro_f1", "spindle_f1", "precision", "recall")


def write(folder: Path, excerpts: Sequence[ScoredExcerpt], about: dict[str, Any]) -> None:
    """Write sleep.json, sleep.md, sleep.png and each subject's tables, and print the second."""
    tree = about | figures(excerpts)
    draw(folder / "sleep.png", excerpts)  # creates the folder
    write_tables(folder, excerpts)
    write_page(folder, "sleep", tree, page)
    print("and sleep.png, and of each excerpt N what was found in it:")
    print("excerptN_hypnogram.csv (every 30 s, with probabilities) and excerptN_spindles.csv")


def figures(excerpts: Sequence[ScoredExcerpt]) -> dict[str, Any]:
    """All figures: by subject, and pooled over those whom an expert marked; NaN where undefined."""
    if not excerpts:
        raise ValueError("there is no subject to score")
    return {
        "classes": list(STAGES),
        "pooled": _pooled([a for a in excerpts if a.staged]),
        "by_subject": {str(a.subject): _of_one(a) for a in excerpts},
    }


def describe(command: str, seconds: float, *, trained: int, networks: Sequence[Trained]) -> dict[str, Any]:
    """The figures' beginning: command, commit, date and time, how many networks were trained in it.

    Args:
        command: as it was given.
        seconds: that it took.
        trained: how many networks it trained.
        networks: how all that predicted came about, those of earlier calls among them; empty if nobody knows.
    """
    spent = {name: round(sum(getattr(n, name) for n in networks)) for name in ("wall_seconds", "cpu_seconds")}
    return {
        "what": "Sleep stages and spindles of REAL EEG (DREAMS)",
        **made_by(command),
        "wall_seconds": round(seconds),
        "trained": trained,
        "networks": {"count": len(networks), "commits": sorted({n.commit or "unknown" for n in networks}), **spent},
    }


def _pooled(excerpts: Sequence[ScoredExcerpt]) -> dict[str, Any]:
    matrices = np.array([a.matrix for a in excerpts]).reshape(-1, len(STAGES), len(STAGES))
    times = draws(len(excerpts), n_resamples=RESAMPLES, seed=0)
    stages = {}
    for name, rate in RATES.items():
        resampled = [rate(np.tensordot(t, matrices, 1)) for t in times]
        stages[name] = [rate(matrices.sum(0)), *_interval(resampled, len(excerpts))]
    f1 = metrics.class_f1(matrices.sum(0))
    return {
        "subjects": [a.subject for a in excerpts],
        "epochs": int(matrices.sum()),
        "stages": stages,
        "f1_by_stage": dict(zip(STAGES, f1.tolist(), strict=True)),
        "confusion": matrices.sum(0).tolist(),
        "spindles": _pooled_spindles(excerpts, marked_in_nrem=False),
        "spindles_marked_in_nrem": _pooled_spindles(excerpts, marked_in_nrem=True),
    }


def _pooled_spindles(excerpts: Sequence[ScoredExcerpt], *, marked_in_nrem: bool) -> dict[str, Any]:
    counted = {a.subject: c for a in excerpts if (c := a.counts(marked_in_nrem=marked_in_nrem)) is not None}
    rows = np.array([c[:3] for c in counted.values()]).reshape(-1, 3)
    resampled = [_f1(t @ rows) for t in draws(len(rows), n_resamples=RESAMPLES, seed=0)]
    pooled = pool_counts(counted.values())
    f1 = [pooled.f1, *_interval(resampled, len(rows))]
    found = {"subjects": list(counted), "f1": f1, "precision": pooled.precision, "recall": pooled.sensitivity}
    return found | {"matched": pooled.matched, "false": pooled.false_detections, "missed": pooled.missed}


def _of_one(excerpt: ScoredExcerpt) -> dict[str, Any]:
    counts = excerpt.counts()
    found = {name: rate(excerpt.matrix) for name, rate in RATES.items()}
    if counts is not None:
        found |= {"spindle_f1": counts.f1, "precision": counts.precision, "recall": counts.sensitivity}
    given = {"settings": dataclasses.asdict(excerpt.settings), "notes": list(excerpt.notes)}
    return found | {"confusion": excerpt.matrix.tolist(), **given}


def _interval(values: Sequence[float], n_subjects: int) -> list[float]:
    """Of resampled values the middle 95 %; of one subject alone nothing can be drawn."""
    known = np.array(values)[~np.isnan(values)]
    return np.quantile(known, [0.025, 0.975]).tolist() if known.size and n_subjects > 1 else [float("nan")] * 2


def _f1(row: np.ndarray) -> float:
    matched, false, missed = row
    return 2 * matched / (2 * matched + false + missed) if matched + missed else float("nan")


# --- the page --------------------------------------------------------------------------------------------------


def page(tree: dict[str, Any]) -> str:
    """The figures as Markdown, None in them for what is undefined."""
    lines = [f"# {tree['what']}", "", *tree.get("how", []), "", *_pooled_lines(tree["pooled"])]
    lines += [*_left_out_lines(tree), ""]
    head = ("subject", "accuracy", "kappa", "macro-F1", "spindles: F1", "precision", "recall")
    lines += table(head, ([n, *(number(own.get(name)) for name in COLUMNS)] for n, own in tree["by_subject"].items()))
    notes = [f"Excerpt {n}: {'; '.join(own['notes'])}." for n, own in tree["by_subject"].items() if own["notes"]]
    lines += ["", *notes] if notes else []
    lines += ["", YASA] if tree["pooled"]["subjects"] == YASA_SUBJECTS else []
    ends = f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}, {tree['wall_seconds']} s of wall time, in"
    ends += f" which {tree['trained']} networks were trained."
    networks = tree["networks"]
    if networks["count"]:
        ends += f" The {networks['count']} networks were trained by commit {', '.join(networks['commits'])} in"
        ends += f" {networks['wall_seconds']} s of wall time, {networks['cpu_seconds']} s of CPU."
    return "\n".join([*lines, "", ends, ""])


def _left_out_lines(tree: dict[str, Any]) -> list[str]:
    """Who is in no pooled figure, or not in those of spindles, for want of labels."""
    staged, marked = tree["pooled"]["subjects"], tree["pooled"]["spindles"]["subjects"]
    everybody = list(map(int, tree["by_subject"]))
    unstaged = ", ".join(str(n) for n in everybody if n not in staged)
    unmarked = ", ".join(str(n) for n in staged if n not in marked)
    lines = [f"Left out of all that is pooled, having no hypnogram: {unstaged}."] if unstaged else []
    lines += [f"Left out of pooled spindles, having no marks of them: {unmarked}."] if unmarked else []
    return ["", *lines] if lines else []


def _range(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"{number(low)} to {number(high)}"


def _pooled_lines(pooled: dict[str, Any]) -> list[str]:
    if not pooled["subjects"]:
        return ["No excerpt here has a hypnogram: there is nothing to compare with."]
    stages, both = pooled["stages"], (pooled["spindles"], pooled["spindles_marked_in_nrem"])
    subjects = ", ".join(map(str, pooled["subjects"]))
    words = {
        "accuracy": "accuracy",
        "kappa": "Cohen's kappa",
        "macro_f1": "macro-F1, stages true or found",
        "macro_f1_of_5": "macro-F1, five stages, 0 where none is",
    }
    rows = [(word, *stages[name]) for name, word in words.items()]
    named = ("spindles in N1 to N3 against all marks", "spindles in N1 to N3 against marks there")
    rows += [(f"{word}: F1 at overlap {LEAST_OVERLAP}", *s["f1"]) for word, s in zip(named, both, strict=True)]
    lines = [f"Subjects {subjects} together, {pooled['epochs']} epochs of 30 s.", ""]
    head = ("", "value", "95 %, subjects drawn")
    lines += [*table(head, ((word, number(value), _range(low, high)) for word, value, low, high in rows)), ""]
    for word, s in zip(named, both, strict=True):
        precision, recall = number(s["precision"], 2), number(s["recall"], 2)
        lines.append(f"{word[0].upper()}{word[1:]}: precision {precision}, recall {recall};")
        lines[-1] += f" {s['matched']} matched, {s['false']} false, {s['missed']} missed."
    by_stage = ", ".join(f"{s} {v:.2f}" for s, v in pooled["f1_by_stage"].items() if v is not None)
    counts = ([stage, *(f"{n:.0f}" for n in row)] for stage, row in zip(STAGES, pooled["confusion"], strict=True))
    return [*lines, f"F1 by stage: {by_stage}.", "", *table(("true \\ found", *STAGES), counts)]


# --- the picture -----------------------------------------------------------------------------------------------


def draw(path: Path, excerpts: Sequence[ScoredExcerpt]) -> None:
    """Hypnograms of expert and network for each subject, and a stretch of EEG with the spindles of both."""
    figure = plt.figure(figsize=(16, 2.3 * len(excerpts)), layout="constrained")
    grid = figure.add_gridspec(len(excerpts), 2, width_ratios=(1, 1.2))
    for row, excerpt in enumerate(excerpts):
        _draw_stages(figure.add_subplot(grid[row, 0]), excerpt, legend=row == 0)
        _draw_spindles(figure.add_subplot(grid[row, 1]), excerpt, legend=row == 0)
    figure.suptitle("REAL EEG (DREAMS), negative up: expert 1, and the network, which did not learn from the subject")
    write_figure(figure, path)


def _draw_stages(axes: Axes, excerpt: ScoredExcerpt, *, legend: bool) -> None:
    n = min(len(excerpt.stages), len(excerpt.truth.stages))
    minutes = np.arange(n + 1) * EPOCH_SECONDS / 60
    for stages, label, style in (
        (excerpt.truth.stages[:n], "expert", {"color": "black", "linewidth": 2.5}),
        (excerpt.stages[:n], "network", {"color": "tab:red", "linewidth": 1.2}),
    ):
        height = np.array([HEIGHT[SLEEP.classes[s]] if s >= 0 else np.nan for s in stages])
        axes.stairs(height, minutes, baseline=None, label=label, **style)
    axes.set_yticks(list(HEIGHT.values()), list(HEIGHT))
    axes.set_ylim(-0.4, 4.4)
    axes.set_ylabel(f"subject {excerpt.subject}")
    axes.set_title(
        f"kappa {number(finite(metrics.cohen_kappa(excerpt.matrix)), 2)}" if excerpt.staged else "", fontsize=9
    )
    axes.set_xlabel("min")
    if legend:
        axes.legend(loc="upper right", fontsize=8)


def _draw_spindles(axes: Axes, excerpt: ScoredExcerpt, *, legend: bool) -> None:
    recording, reference = excerpt.recording, excerpt.truth.spindles
    stages = excerpt.truth.stages if excerpt.staged else excerpt.stages
    marked = np.zeros((0, 2)) if reference is None else in_nrem(reference, stages)
    found = in_nrem(excerpt.spindles, stages)
    # The first stretch that holds the most marks of either: an example, not a measure.
    begins = np.arange(0, max(excerpt.truth.seconds - SHOWN_SECONDS, 1.0), SHOWN_SECONDS)
    both = np.concatenate([marked, found]).mean(1) if len(marked) + len(found) else np.zeros(0)
    begin = float(begins[np.argmax([((both >= b) & (both < b + SHOWN_SECONDS)).sum() for b in begins])])
    first, stop = round(begin * recording.sfreq), round((begin + SHOWN_SECONDS) * recording.sfreq)
    eeg = recording.read(0, first, min(stop, recording.segments[0].n_times))[:, 0]
    axes.plot(begin + np.arange(len(eeg)) / recording.sfreq, eeg - np.median(eeg), color="black", linewidth=0.6)
    for intervals, colour, label, height in ((marked, "tab:blue", "expert", -95), (found, "tab:red", "network", 95)):
        shown = intervals[(intervals[:, 0] < begin + SHOWN_SECONDS) & (intervals[:, 1] > begin)]
        axes.hlines(np.full(len(shown), height), shown[:, 0], shown[:, 1], color=colour, linewidth=5, label=label)
    axes.set_xlim(begin, begin + SHOWN_SECONDS)
    axes.set_ylim(110, -110)
    axes.set_ylabel("µV")
    counts = excerpt.counts()
    axes.set_title("" if counts is None else f"spindles: F1 {number(finite(counts.f1), 2)}", fontsize=9)
    axes.set_xlabel("s")
    if legend:
        axes.legend(loc="upper right", fontsize=8)
