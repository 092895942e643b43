"""The tree of `experiments.ecg.results` as Markdown and as one figure."""

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # before pyplot: no screen is needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from experiments.ecg.networks import ALL, ARMS, RARE, SINGLE

Tree = dict[str, Any]

TITLES = {ALL: "all classes", RARE: "rare classes", SINGLE: "one network a class"}
FIGURE_TITLES = {"auprc": "AUPRC", "f1": "F1"}
_COLOURS = {ALL: "tab:blue", RARE: "tab:orange", SINGLE: "tab:red"}


def markdown(tree: Tree) -> str:
    """The page."""
    made, differences = tree["made"], tree["results"]["differences"]
    rows = tree["results"]["classes"]
    rare = [row for row in rows if row["is_rare"]]
    lines = [
        "# Do common diagnoses help rare ones? (electrocardiograms)",
        "",
        f"Data: {made['data']}. {made['windows']} windows of {made['patients']} patients; {made['design']}.",
        "",
        f"Networks: {made['network']}. Three arms, with the same windows, order, augmentation, initial seeds and number"
        f" of updates a network: heads for **{TITLES[ALL]}** ({len(rows)}), heads for the **{TITLES[RARE]}** alone"
        f" ({len(rare)}), and **{TITLES[SINGLE]}** ({len(rare)} networks, so {len(rare)} times the updates in all).",
        "",
        "## Answer",
        "",
        *(f"- {_sentence(difference)}" for difference in differences),
        "",
        f"Verdict: {_verdict(differences)}",
        "",
        "## Rare classes",
        "",
        *_table(rare, ARMS),
        _means(tree["results"]["rare_means"]),
        "",
        "Chance level of AUPRC is the share. Both figures are of all test windows of a repeat together, mean over"
        " repeats; F1 at the threshold of maximal F1 on validation windows, one a network and class.",
        "",
        "## Common classes, of the network with all heads",
        "",
        *_table([row for row in rows if not row["is_rare"]], (ALL,)),
        "",
        "## How it was made",
        "",
        f"`{made['command']}`, commit {made['commit']}, {made['date']}; {made['networks']} networks,"
        f" {made['minutes']:.0f} minutes of one core in all; {made['resamples']} resamples. Seeds: a network's is"
        " 1000 x repeat + fold; folds of repeat r are dealt with seed r.",
        "",
        *made["remarks"],
    ]
    return "\n".join([*lines, ""])


def _table(rows: list[Tree], arms: tuple[str, ...]) -> list[str]:
    heads = [f"{FIGURE_TITLES[f]}, {TITLES[arm]}" for f in FIGURE_TITLES for arm in arms]
    lines = ["| class | positives | labelled | share | " + " | ".join(heads) + " |", "|---" * (4 + len(heads)) + "|"]
    for row in rows:
        share = row["positives"] / row["labelled"]
        cells = [_number(row["arms"][arm][f]) for f in FIGURE_TITLES for arm in arms]
        lines.append(
            f"| {row['class']} | {row['positives']} | {row['labelled']} | {share:.3f} | " + " | ".join(cells) + " |"
        )
    return lines


def _means(means: Tree) -> str:
    cells = [f"**{_number(means[arm][f])}**" for f in FIGURE_TITLES for arm in ARMS]
    return "| **mean** | | | | " + " | ".join(cells) + " |"


def _sentence(difference: Tree) -> str:
    left, right = (TITLES[arm] for arm in difference["arms"])
    drawn, test = difference["bootstrap"], difference["corrected"]
    text = (
        f"{FIGURE_TITLES[difference['figure']]}, mean of the rare classes, {left} minus {right}: {drawn['value']:+.3f};"
        f" patient bootstrap {_interval(drawn)}"
    )
    if math.isnan(test["p"]):
        return f"{text}; no folds to test over"
    return (
        f"{text}; over folds {test['mean']:+.3f}, corrected t-test {_interval(test)}, p = {test['p']:.3f}"
        f" ({test['p_holm']:.3f} after Holm), {test['n_folds']} folds"
    )


def _verdict(differences: list[Tree]) -> str:
    clear = [d for d in differences if _is_clear(d)]
    if not clear:
        return "not significant. No difference between the arms stands in both tests on these records."
    said = [
        f"{TITLES[d['arms'][0]]} {'above' if d['bootstrap']['value'] > 0 else 'below'} {TITLES[d['arms'][1]]} in"
        f" {FIGURE_TITLES[d['figure']]}"
        for d in clear
    ]
    return f"{'; '.join(said)} (in both tests); nothing else is significant."


def _is_clear(difference: Tree) -> bool:
    """Whether both tests agree that there is a difference; without folds, the bootstrap."""
    drawn, test = difference["bootstrap"], difference["corrected"]
    apart = drawn["low"] > 0 or drawn["high"] < 0
    return apart and (math.isnan(test["p"]) or test["p_holm"] < 0.05)


def _interval(found: Tree) -> str:
    return "undefined" if math.isnan(found["low"]) else f"[{found['low']:+.3f}, {found['high']:+.3f}]"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


# --- the figure ------------------------------------------------------------------------------------------------


def draw(tree: Tree, path: Path) -> None:
    """AUPRC of each rare class by arm, and each class's difference with its interval."""
    rare = sorted((row for row in tree["results"]["classes"] if row["is_rare"]), key=lambda row: row["positives"])
    figure, (values, gains) = plt.subplots(
        1, 2, figsize=(12, 0.42 * len(rare) + 2.2), layout="constrained", sharey=True
    )
    place = np.arange(len(rare))
    for arm, shift in zip(ARMS, (0.22, 0.0, -0.22), strict=True):
        values.barh(
            place + shift, [row["arms"][arm]["auprc"] for row in rare], 0.2, color=_COLOURS[arm], label=TITLES[arm]
        )
    shares = [row["positives"] / row["labelled"] for row in rare]
    values.scatter(shares, place, marker="|", s=300, color="black", label="chance (share)", zorder=3)
    values.set_yticks(place, [f"{row['class']} ({row['positives']} of {row['labelled']})" for row in rare])
    values.set_xlabel("AUPRC")
    values.set_xlim(0, 1)
    values.legend(fontsize=8)
    _draw_gains(gains, tree, [row["class"] for row in rare])
    figure.suptitle(f"Do common diagnoses help rare ones? {tree['made']['data']}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_gains(axes: Axes, tree: Tree, names: list[str]) -> None:
    for difference in tree["results"]["differences"]:
        if difference["figure"] != "auprc":
            continue
        other = difference["arms"][1]
        shift = 0.12 if other == RARE else -0.12
        found = [difference["by_class"][name] for name in names]
        middle = np.array([one["value"] for one in found])
        sides = np.abs(np.array([[one["low"], one["high"]] for one in found]).T - middle)
        label = f"all classes minus {TITLES[other]}: mean {difference['bootstrap']['value']:+.3f}"
        label += f" {_interval(difference['bootstrap'])}"
        style = {"fmt": "o", "ms": 4, "lw": 1, "color": _COLOURS[other], "label": label}
        axes.errorbar(middle, np.arange(len(names)) + shift, xerr=np.nan_to_num(sides), **style)
    axes.axvline(0, color="0.6", lw=1)
    axes.set_xlabel("difference in AUPRC, 95 % patient bootstrap")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12))
