"""The page's figures, drawn from its tree of numbers and from nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from experiments.figures import write_figure
from siamese_jax.vocabulary import STAGES

Tree = dict[str, Any]

SIMULATED_COLOUR = "0.45"
REAL_COLOURS: tuple[str, ...] = ("tab:red", "tab:blue", "tab:orange", "tab:green", "tab:purple")
DRAWN_HZ = (0.25, 48.0)


def draw_figures(out: Path, tree: Tree) -> None:
    """Draw spectra.png, spindles.png, fields.png, stages.png and apart.png; what is not defined is not drawn."""
    tree = _drawable(tree)
    colours = dict(zip(tree["spectra"]["real"], REAL_COLOURS, strict=False))
    _draw_spectra(out / "spectra.png", tree, colours)
    _draw_spindles(out / "spindles.png", tree, colours)
    _draw_fields(out / "fields.png", tree["fields"])
    _draw_stages(out / "stages.png", tree["stages"])
    _draw_apart(out / "apart.png", tree["apart"], colours)


def _drawable(tree: Any) -> Any:
    """NaN in place of None in every list: Matplotlib leaves it out."""
    if isinstance(tree, dict):
        return {key: _drawable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [np.nan if value is None else _drawable(value) for value in tree]
    return tree


def _draw_spectra(path: Path, tree: Tree, colours: dict[str, str]) -> None:
    """Stages in columns, derivations that a real person has in rows."""
    spectra, step = tree["spectra"], tree["frequency_step_hz"]
    used = sorted({one["ch_name"] for one in spectra["real"].values()})
    figure, grid = plt.subplots(
        len(used), 5, figsize=(18, 4.2 * len(used) + 0.8), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for row, ch_name in zip(grid, used, strict=True):
        for axes, stage in zip(row, STAGES, strict=True):
            own = spectra["simulated"][ch_name][stage]
            if own["n"]:
                hz = np.arange(len(own["median"])) * step
                axes.fill_between(hz, own["low"], own["high"], color=SIMULATED_COLOUR, alpha=0.3, lw=0)
                axes.plot(hz, own["median"], color=SIMULATED_COLOUR, lw=2, label=f"simulated, {own['n']} patients")
            for name, one in spectra["real"].items():
                if one["ch_name"] == ch_name and stage in one["stages"]:
                    psd = one["stages"][stage]["psd"]
                    hz = np.arange(len(psd)) * step
                    kept = hz <= 0.48 * one["sfreq"]
                    axes.plot(hz[kept], np.array(psd)[kept], color=colours[name], lw=1.2, label=f"{name} (real)")
            axes.set_title(f"{stage}, {ch_name}")
            axes.set(xscale="log", xlim=DRAWN_HZ, ylim=(-30, 40), xticks=[0.5, 1, 2, 4, 8, 16, 32])
            axes.set_xticklabels(["0.5", "1", "2", "4", "8", "16", "32"])
            axes.axvspan(DRAWN_HZ[0], 1, color="0.92", lw=0)
            axes.axvspan(30, DRAWN_HZ[1], color="0.92", lw=0)
            axes.legend(fontsize=8, loc="lower left")
        row[0].set_ylabel("dB of 1 uV²/Hz")
    for axes in grid[-1]:
        axes.set_xlabel("Hz")
    figure.suptitle(
        "Power spectral density by stage: SIMULATED (line: median of patients; band: 10-90 %) and REAL."
        " Grey edges: filters of the real recorders; not compared."
    )
    write_figure(figure, path)


def _draw_spindles(path: Path, tree: Tree, colours: dict[str, str]) -> None:
    rows = tree["spindles"]
    figure, grid = plt.subplots(1, 4, figsize=(18, 0.5 * len(rows) + 1.8), sharey=True, layout="constrained")
    parts = {
        "hz": "peak frequency, Hz",
        "amplitude_uv": "largest envelope in 10-17 Hz, uV",
        "seconds": "seconds above half of that",
        "per_minute": "a minute of N2",
    }
    for axes, (name, label) in zip(grid, parts.items(), strict=True):
        for i, (who, row) in enumerate(rows.items()):
            if row[name] is None:
                continue
            low, median, high = row[name]
            colour = colours.get(who.split(",")[0], SIMULATED_COLOUR)
            axes.plot([low, high], [i, i], color=colour, lw=4, alpha=0.4, solid_capstyle="butt")
            axes.plot([median], [i], "o", color=colour)
        axes.set_xlabel(label)
        axes.set_yticks(range(len(rows)), [f"{who}: {row['n']}" for who, row in rows.items()])
        axes.grid(axis="x", alpha=0.4)
    grid[0].invert_yaxis()
    figure.suptitle(
        "Sleep spindles of N2, SIMULATED and REAL (marked by experts): median and 10-90 %"
        " (of spindles; the last panel: of people)"
    )
    write_figure(figure, path)


def _draw_fields(path: Path, fields: Tree) -> None:
    edges = np.array(fields["edges_degrees"], float)
    middle = (edges[:-1] + np.minimum(edges[1:], 180)) / 2
    figure, grid = plt.subplots(2, 4, figsize=(18, 8), sharey="row", layout="constrained")
    for (above, below), (name, band) in zip(grid.T, fields["bands"].items(), strict=True):
        _with_band(above, middle, band["correlation"])
        above.set(title=name, xlabel="angle between electrodes, degrees")
        above.axhline(0, color="black", lw=0.6)
        _with_band(below, np.arange(len(fields["ch_names"])), band["field_db"])
        below.set_xticks(range(len(fields["ch_names"])), fields["ch_names"], fontsize=8)
    grid[0, 0].set_ylabel("correlation")
    grid[1, 0].set_ylabel("power over the electrodes' mean, dB")
    grid[0, 0].legend()
    figure.suptitle(
        f"Electrodes in wakefulness, against the average of {len(fields['ch_names'])}: SIMULATED ({fields['patients']}"
        " patients, median and 10-90 %) and one REAL person at a visual task with open eyes"
    )
    write_figure(figure, path)


def _with_band(axes: Axes, x: np.ndarray, values: Tree) -> None:
    axes.fill_between(x, values["low"], values["high"], color=SIMULATED_COLOUR, alpha=0.3, lw=0)
    axes.plot(x, values["median"], "o-", color=SIMULATED_COLOUR, ms=4, label="simulated")
    axes.plot(x, values["real"], "s-", color="tab:red", ms=4, label="EEGLAB sample (real)")


def _draw_stages(path: Path, stages: Tree) -> None:
    figure, grid = plt.subplots(1, 3, figsize=(16, 4.6), layout="constrained", width_ratios=(1.2, 1, 1))
    low, median, high = stages["simulated_matched_by_person"]
    grid[0].plot([0, 0], [low, high], color=SIMULATED_COLOUR, lw=8, alpha=0.4, solid_capstyle="butt")
    grid[0].plot([0], [median], "o", color=SIMULATED_COLOUR, label="median and 10-90 % of simulated patients")
    shown = stages["real_by_person"]
    grid[0].plot([1] * len(shown), shown, "s", color="tab:red", label="a real person each")
    low, median, high = stages["simulated_within_person"]
    grid[0].plot([2, 2], [low, high], color=SIMULATED_COLOUR, lw=8, alpha=0.4, solid_capstyle="butt")
    grid[0].plot([2], [median], "o", color=SIMULATED_COLOUR)
    shown = stages["real_within_person"]
    grid[0].plot([3] * len(shown), shown, "s", color="tab:red")
    names = ["simulated,\nother people", "real,\nother people", "simulated,\nsame person", "real,\nsame person"]
    grid[0].set_xticks(range(4), names)
    grid[0].set(ylim=(-0.05, 1.02), ylabel="Cohen's kappa", title="LDA on five band powers, trained on ...")
    grid[0].grid(axis="y", alpha=0.4)
    grid[0].legend(fontsize=8, loc="lower left")
    for axes, what in zip(grid[1:], ("simulated", "real"), strict=True):
        matrix = np.array(stages[f"{what}_confusion"])
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(share, cmap="Greys", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(matrix):
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if share[i, j] > 0.5 else "black")
        axes.set_xticks(range(5), STAGES)
        axes.set_yticks(range(5), STAGES)
        axes.set(xlabel="found", ylabel="true", title=f"{what.upper()}: 30-s epochs")
    figure.suptitle("Agreement of sleep stages, SIMULATED and REAL: one derivation, people left out one at a time")
    write_figure(figure, path)


def _draw_apart(path: Path, apart: Tree, colours: dict[str, str]) -> None:
    rows = sorted(apart["single"].items(), key=lambda item: abs(item[1]["auroc"] - 0.5))
    rows += [
        (f"LOGISTIC, {name}", {**one, "no_difference": None, "band": one["no_difference"]})
        for name, one in reversed(apart["combined"].items())
    ]
    figure, axes = plt.subplots(figsize=(11, 0.33 * len(rows) + 1.6), layout="constrained")
    for i, (_, row) in enumerate(rows):
        band = row.get("band")
        if band is None:
            band = (0.5 - row["no_difference"], None, 0.5 + row["no_difference"])
        axes.plot([band[0], band[2]], [i, i], color=SIMULATED_COLOUR, lw=7, alpha=0.35, solid_capstyle="butt")
        for name, value in zip(apart["people"], row["by_person"], strict=True):
            axes.plot([value], [i], "|", color=colours.get(name, "black"), ms=9, mew=2, label=name if not i else None)
        axes.plot([row["auroc"]], [i], "o", color="black", ms=5, label="all" if not i else None)
    axes.axvline(0.5, color="black", lw=0.7)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(
        xlim=(0, 1),
        ylim=(-0.8, len(rows) - 0.2),
        xlabel="AUROC: P(a real window has more than a SIMULATED one of the same stage)",
    )
    axes.legend(loc="lower right", fontsize=8, title="real people")
    axes.set_title(
        "SIMULATED against REAL: 4 s of one derivation, 1-30 Hz\n"
        "grey: what simulated people in place of the real ones give (90 %)"
    )
    write_figure(figure, path)
