"""What ecg.json holds, as Markdown and as one figure; what is not defined is None there."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from experiments.ecg.networks import ALL, ARMS, RARE, SINGLE
from experiments.figures import COLOURS, write_figure
from experiments.pages import number, table

Tree = dict[str, Any]

TITLES = {ALL: "all classes", RARE: "rare classes", SINGLE: "one network a class"}
FIGURE_TITLES = {"auprc": "AUPRC", "f1": "F1"}
ON_PTB_XL = """\
python -m data_tools.ptb_xl PTB_XL SHARDS --statements all
python -m experiments.ecg SHARDS --folds 0 --repeats 5 --rare-share 0.01 --min-positives 20 --width 1 --dropout 0.5 \\
    --steps 4000 --batch-size 128 --learning-rate 1e-3
"""
"""The experiment as it was designed, on 21,799 records by their own folds (1 to 8, 9, 10)."""

_COLOURS = dict(zip(ARMS, COLOURS, strict=False))


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
        "### Differences by class",
        "",
        *_gains_table(rare, differences),
        "",
        _exceptions(differences),
        "",
        "## Common classes, of the network with all heads",
        "",
        *_table([row for row in rows if not row["is_rare"]], (ALL,)),
        "",
        "## How it was made",
        "",
        f"`{made['command']}`, commit {made['commit']}, {made['date']}; {made['networks']} networks,"
        f" {made['minutes']:.0f} minutes of one core in all; {made['resamples']} resamples. Seeds: a network's is"
        " 1000 x repeat + fold; folds of repeat r are drawn with seed r.",
        "",
        *made["remarks"],
        "",
        "PTB-XL, by its own folds, on an accelerator:",
        "",
        "```bash",
        ON_PTB_XL.rstrip(),
        "```",
    ]
    return "\n".join([*lines, ""])


def _table(rows: list[Tree], arms: tuple[str, ...]) -> list[str]:
    return _by_class(
        rows,
        [f"{FIGURE_TITLES[f]}, {TITLES[arm]}" for f in FIGURE_TITLES for arm in arms],
        [[number(row["arms"][arm][f]) for f in FIGURE_TITLES for arm in arms] for row in rows],
    )


def _gains_table(rare: list[Tree], differences: list[Tree]) -> list[str]:
    def cell(found: Tree) -> str:
        text = _gain(found)
        return f"**{text}**" if _excludes_zero(found) else text

    return _by_class(
        rare,
        [f"{FIGURE_TITLES[d['figure']]}, {_pair(d)}" for d in differences],
        [[cell(d["by_class"][row["class"]]) for d in differences] for row in rare],
    )


def _by_class(rows: list[Tree], heads: list[str], cells: list[list[str]]) -> list[str]:
    """A table with each class and its support before the cells."""
    support = [
        (row["class"], str(row["positives"]), str(row["labelled"]), number(row["positives"] / row["labelled"]))
        for row in rows
    ]
    head = ("class", "positives", "labelled", "share", *heads)
    return table(head, ((*about, *own) for about, own in zip(support, cells, strict=True)))


def _means(means: Tree) -> str:
    cells = [f"**{number(means[arm][f])}**" for f in FIGURE_TITLES for arm in ARMS]
    return "| **mean** | | | | " + " | ".join(cells) + " |"


def _exceptions(differences: list[Tree]) -> str:
    """Which classes' intervals exclude 0, among how many."""
    defined = [found for d in differences for found in d["by_class"].values() if found["low"] is not None]
    groups = []
    for d in differences:
        if own := [f"{name} {_gain(found)}" for name, found in d["by_class"].items() if _excludes_zero(found)]:
            groups.append(f"{FIGURE_TITLES[d['figure']]}, {_pair(d)}: {', '.join(own)}")
    n_apart = sum(map(_excludes_zero, defined))
    return (
        "Paired differences with the 95 % interval of a patient bootstrap, bold where it excludes 0. These intervals"
        " are not adjusted for the number of classes, and take the networks as they were trained: one in twenty or more"
        f" would exclude 0 if no arm were better than another. {n_apart} of {len(defined)} do"
        f"{': ' if groups else ''}{'; '.join(groups)}."
    )


def _sentence(difference: Tree) -> str:
    drawn, test = difference["bootstrap"], difference["corrected"]
    text = (
        f"{FIGURE_TITLES[difference['figure']]}, mean of the rare classes, {_pair(difference)}:"
        f" {number(drawn['value'], signed=True)}; patient bootstrap {_interval(drawn)}"
    )
    if not test["n_folds"]:
        return f"{text}; no folds to test over"
    if test["p"] is None:
        return f"{text}; corrected t-test over {test['n_folds']} folds undefined"
    return (
        f"{text}; over folds {test['mean']:+.3f}, corrected t-test {_interval(test)}, p = {test['p']:.3f}"
        f" ({test['p_holm']:.3f} after Holm), {test['n_folds']} folds"
    )


def _verdict(differences: list[Tree]) -> str:
    """What stands in both tests; without folds, which intervals of the one test exclude 0, and that it is one."""
    has_folds = any(d["corrected"]["n_folds"] for d in differences)
    clear = [d for d in differences if _excludes_zero(d["bootstrap"]) and (not has_folds or _is_significant(d))]
    findings = "; ".join(
        f"{TITLES[d['arms'][0]]} {'above' if d['bootstrap']['value'] > 0 else 'below'} {TITLES[d['arms'][1]]} in"
        f" {FIGURE_TITLES[d['figure']]}"
        for d in clear
    )
    if has_folds:
        if not clear:
            return "not significant. No difference between the arms stands in both tests on these records."
        return f"{findings} (in both tests); nothing else is significant."
    alone = f"there are no folds for a second test, and the {len(differences)} intervals are not adjusted"
    alone += " for their number"
    if not clear:
        return f"not significant. No interval of the patient bootstrap excludes 0; {alone}."
    return f"{findings}, by the patient bootstrap alone: {alone}. No other interval excludes 0."


def _is_significant(difference: Tree) -> bool:
    """By the corrected t-test over folds."""
    p = difference["corrected"]["p_holm"]
    return p is not None and p < 0.05


def _excludes_zero(found: Tree) -> bool:
    """Whether the interval lies on one side of 0."""
    return found["low"] is not None and (found["low"] > 0 or found["high"] < 0)


def _pair(difference: Tree) -> str:
    left, right = (TITLES[arm] for arm in difference["arms"])
    return f"{left} minus {right}"


def _gain(found: Tree) -> str:
    return f"{number(found['value'], signed=True)} {_interval(found)}"


def _interval(found: Tree) -> str:
    return "undefined" if found["low"] is None else f"[{found['low']:+.3f}, {found['high']:+.3f}]"


# --- the figure ------------------------------------------------------------------------------------------------


def draw(tree: Tree, path: Path) -> None:
    """AUPRC of each rare class by arm, and each class's difference with its interval."""
    rare = sorted((row for row in tree["results"]["classes"] if row["is_rare"]), key=lambda row: row["positives"])
    figure, (values, gains) = plt.subplots(
        1, 2, figsize=(12, 0.42 * len(rare) + 2.2), layout="constrained", sharey=True
    )
    place = np.arange(len(rare))
    for arm, shift in zip(ARMS, (0.22, 0.0, -0.22), strict=True):
        height = np.array([row["arms"][arm]["auprc"] for row in rare], float)
        values.barh(place + shift, height, 0.2, color=_COLOURS[arm], label=TITLES[arm])
    shares = [row["positives"] / row["labelled"] for row in rare]
    values.scatter(shares, place, marker="|", s=300, color="black", label="chance (share)", zorder=3)
    values.set_yticks(place, [f"{row['class']} ({row['positives']} of {row['labelled']})" for row in rare])
    values.set_xlabel("AUPRC")
    values.set_xlim(0, 1)
    values.legend(fontsize=8)
    _draw_gains(gains, tree, [row["class"] for row in rare])
    figure.suptitle(f"Do common diagnoses help rare ones? {tree['made']['data']}", fontsize=10)
    write_figure(figure, path)


def _draw_gains(axes: Axes, tree: Tree, names: list[str]) -> None:
    for difference in tree["results"]["differences"]:
        if difference["figure"] != "auprc":
            continue
        other = difference["arms"][1]
        shift = 0.12 if other == RARE else -0.12
        found = [difference["by_class"][name] for name in names]
        middle = np.array([one["value"] for one in found], float)
        sides = np.abs(np.array([[one["low"], one["high"]] for one in found], float).T - middle)
        label = f"{_pair(difference)}: mean {_gain(difference['bootstrap'])}"
        style = {"fmt": "o", "ms": 4, "lw": 1, "color": _COLOURS[other], "label": label}
        axes.errorbar(middle, np.arange(len(names)) + shift, xerr=np.nan_to_num(sides), **style)
    axes.axvline(0, color="0.6", lw=1)
    axes.set_xlabel("difference in AUPRC, 95 % patient bootstrap")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12))
