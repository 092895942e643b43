"""The tree of `summary.summarise` as text: Markdown to read, CSV to compute with."""

import csv
import io
from typing import Any

from experiments.pages import UNDEFINED, number, table
from experiments.sweep.measures import ALL, CODES, FALSE_PER_HOUR, LEAST_PATIENTS, LEAST_POSITIVES, PUBLISHED, ROUND
from experiments.sweep.summary import COMPARED

TITLES = {
    f"specificity_at_{PUBLISHED:g}": f"specificity at {PUBLISHED:g}",
    f"precision_at_{PUBLISHED:g}": f"precision at {PUBLISHED:g}",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    f"specificity_at_{ROUND:g}": f"specificity at {ROUND:.2f}",
    f"precision_at_{ROUND:g}": f"precision at {ROUND:.2f}",
    FALSE_PER_HOUR: "false detections/h",
    "calibration_error": "calibration error",
    "brier": "Brier",
    "matched_auroc": "matched AUROC",
} | {
    f"validation_{wanted:g}_{rate}": f"{rate} ({text})"
    for wanted, text in ((PUBLISHED, f"{PUBLISHED:g}"), (ROUND, f"{ROUND:.2f}"))
    for rate in ("sensitivity", "specificity", "precision")
}
"""Every figure of a stratum and the head of its column."""
MAIN = tuple(TITLES)[:5]
FURTHER = tuple(TITLES)[5:11]
FIXED = tuple(TITLES)[11:]
BY_STAGE = ("auprc", "auroc", *(f for f in TITLES if "_at_" in f), "f1", FALSE_PER_HOUR, "calibration_error")
"""Shown by stage; the CSV has all."""

MEANINGS = {
    "value [low, high] ±spread": (
        "mean over folds and seeds [percentile interval of that mean from drawing the test patients anew]"
        " ±standard deviation between seeds. The interval knows nothing of other seeds, and with fewer than some 20"
        " patients it is too narrow."
    ),
    f"specificity, precision at {PUBLISHED:g} and {ROUND:.2f}": (
        "at the highest threshold at which the test windows themselves reach this sensitivity, as in the published"
        " table; no threshold that a user could have chosen."
    ),
    "sensitivity, specificity, precision (of a value)": (
        "at the threshold that reached this sensitivity in validation patients: what a user would get."
    ),
    "F1": "of test windows at the threshold of maximal F1 in validation patients.",
    "AUROC": "chance that a window with an IED scores above one without; equal scores count one half.",
    "AUPRC": "average precision; chance level is the prevalence, so compare it at equal prevalence only.",
    "false detections/h": (
        "in test patients without any IED window, at the threshold of sensitivity 0.80 in validation patients;"
        " detected windows that follow each other in a recording are one detection, of the stage in which it begins;"
        " hours are those that windows with a label cover. Where there was none at all, the upper limit is that of a"
        " Poisson count."
    ),
    "calibration error": (
        "mean |share of IEDs - mean probability| over ten bins of equal width, each by its windows; probabilities as"
        " recalibrated on the validation patients; chance differences count as error too, so resamples lean upwards."
    ),
    "Brier": "mean squared difference of probability and label.",
    "matched AUROC": (
        "AUROC within one patient and one sleep stage, mean over those that have windows with and without IED,"
        " weighted by pairs: neither who it is nor how deeply they sleep helps here."
    ),
    "AUROC by windows": (
        "the same AUROC with the interval of Hanley & McNeil, as if each window were a patient of its own: too narrow,"
        " shown beside published intervals of that kind."
    ),
}


def markdown(tree: dict[str, Any]) -> str:
    """The page of a sweep: main table, further figures, by stage, differences, then what each column means."""
    return "\n".join(
        [
            f"# {tree['title']}",
            "",
            *_about(tree),
            "",
            "## Test patients",
            "",
            *_comparison(tree),
            "",
            "## By sleep stage",
            "",
            *_stages(tree),
            "",
            f"## Differences from {tree['reference']}",
            "",
            *_contrasts(tree, "differences"),
            "",
            *(["## Effects", "", *_contrasts(tree, "effects"), ""] if tree["effects"] else []),
            "## Columns",
            "",
            *(f"- {name}: {meaning}" for name, meaning in MEANINGS.items()),
            "",
            "## Made by",
            "",
            f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}: {tree['seconds']:.0f} s of training and"
            " scoring, all runs of this page together.",
            "",
        ]
    )


def csv_text(tree: dict[str, Any]) -> str:
    """One row for each run x stratum x figure: value, low, high, spread over seeds; empty where undefined."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = ("value", "low", "high", "seed_sd")
    writer.writerow(("run", "stratum", "figure", *columns, "windows", "positives"))
    for name, run in tree["runs"].items():
        for stratum, measured in run["strata"].items():
            holds = tree["strata"][stratum]
            for figure in TITLES:
                values = [measured.get(figure, {}).get(column) for column in columns]
                writer.writerow((name, stratum, figure, *values, holds["windows"], holds["positives"]))
        area = run["auroc_hanley_mcneil"]
        holds = tree["strata"][ALL]["windows"], tree["strata"][ALL]["positives"]
        writer.writerow((name, ALL, "auroc_hanley_mcneil", area["value"], area["low"], area["high"], None, *holds))
    return file.getvalue()


# --- parts of the page ------------------------------------------------------------------------------------------


def _about(tree: dict[str, Any]) -> list[str]:
    everything, sizes = tree["strata"][ALL], tree["patients_a_fold"]
    return [
        f"**Data: {tree['source']}.** {tree['note']}",
        "",
        f"{everything['patients']} test patients ({everything['patients_with_positives']} with IEDs,"
        f" {everything['ied_free_patients']} without: {everything['ied_free_hours']:.1f} h),"
        f" {everything['windows']} windows of {tree['window_seconds']:g} s, {everything['positives']} with an IED:"
        f" prevalence {everything['prevalence']:.4f}. {len(tree['folds'])} patient-grouped"
        f" {'split' if len(tree['folds']) == 1 else 'folds'} (on average {sizes['n_train']:.0f} patients for training,"
        f" {sizes['n_validation']:.0f} for validation, {sizes['n_test']:.0f} for testing), seeds"
        f" {', '.join(map(str, tree['seeds']))}. Intervals: {tree['level']:.0%}, {tree['resamples']} resamples of the"
        " test patients, the same for all runs.",
    ]


def _comparison(tree: dict[str, Any]) -> list[str]:
    titles = TITLES | {"auprc": f"AUPRC (chance {number(tree['strata'][ALL]['prevalence'])})"}
    runs = tree["runs"].items()
    main = [
        (name, f"{run['n_parameters']:,}", f"{run['seconds']:.0f}", _repeats(tree, run), *_cells(run, ALL, MAIN))
        for name, run in runs
    ]
    further = [(name, *_cells(run, ALL, FURTHER), _cell(run["auroc_hanley_mcneil"])) for name, run in runs]
    fixed = [(name, *_cells(run, ALL, FIXED)) for name, run in runs]
    reason = tree["strata"][ALL]["too_few"]
    return [
        *([f"Too few for figures: {reason}.", ""] if reason else []),
        *table(("run", "parameters", "s a run", "folds x seeds", *(titles[f] for f in MAIN)), main),
        "",
        *table(("run", *(titles[f] for f in FURTHER), "AUROC by windows"), further),
        "",
        "At thresholds that were fixed in validation patients, for the sensitivity in brackets:",
        "",
        *table(("run", *(titles[f] for f in FIXED)), fixed),
    ]


def _repeats(tree: dict[str, Any], run: dict[str, Any]) -> str:
    whole = (run["folds"], run["seeds"]) == (tree["folds"], tree["seeds"])
    return f"{len(run['folds'])} x {len(run['seeds'])}" + ("" if whole else " (not all)")


def _stages(tree: dict[str, Any]) -> list[str]:
    strata = {name: tree["strata"][name] for name in CODES}
    rows = [
        ("windows", *(f"{s['windows']}" for s in strata.values())),
        ("with an IED", *(f"{s['positives']}" for s in strata.values())),
        ("prevalence", *(number(s["prevalence"]) for s in strata.values())),
        ("patients with IEDs", *(f"{s['patients_with_positives']}" for s in strata.values())),
        ("folds with figures", *(f"{s['folds']} of {len(tree['folds'])}" for s in strata.values())),
    ]
    lines = table(("", *CODES), rows)
    for name, stratum in strata.items():
        if stratum["too_few"]:
            lines += [
                "",
                f"{name} has no figures: {stratum['too_few']} (least: {LEAST_POSITIVES} in {LEAST_PATIENTS}).",
            ]
    for figure in BY_STAGE:
        body = [(name, *(_cells(run, s, (figure,))[0] for s in CODES)) for name, run in tree["runs"].items()]
        lines += ["", *table((TITLES[figure], *CODES), body)]
    return lines


def _contrasts(tree: dict[str, Any], kind: str) -> list[str]:
    rows = tree[kind]
    if not rows:
        return ["No other run."]
    over_folds = len(tree["folds"]) > 1
    over_draws = tree["training_drawn"] and not over_folds
    p, interval, seeds, source = (
        *("p_bootstrap_holm", "patients drawn in pairs", "seeds in which better"),
        "the patient bootstrap, since one split says nothing about other training sets",
    )
    if over_folds:
        p, interval = "p_corrected_holm", "the corrected resampled t-test over folds (Nadeau & Bengio 2003)"
        source = interval
    elif over_draws:
        p, seeds = "p_drawn_holm", "the difference with each seed's own training patients"
        source = (
            "whichever is greater: the patient bootstrap's, or that of Student's t over the seeds' training patients"
        )
    body = []
    for row in rows:
        name = row["name"] if kind == "differences" else f"{row['name']}: {row['run']} - {row['against']}"
        cells = []
        for figure in COMPARED:
            d = row["figures"][figure]
            if over_folds:
                d = d | {"low": d["corrected_low"], "high": d["corrected_high"]}
            of_seeds = _each(d) if over_draws else _better(d)
            cells.append(f"{_cell(d, signed=True)}; {of_seeds}; p {_p(d[p])}")
        body.append((name, *cells))
    return [
        *table(("run", *(TITLES[f] for f in COMPARED)), body),
        "",
        f"Difference [interval: {interval}]; {seeds}; p of no difference from {source}, adjusted for the number of rows"
        " (Holm).",
    ]


def _each(difference: dict[str, Any]) -> str:
    return ", ".join(number(x, signed=True) for x in difference["by_seed"]) or UNDEFINED


def _better(difference: dict[str, Any]) -> str:
    share, n = difference["share_of_seeds_better"], difference["seeds"]
    return f"{UNDEFINED if share is None else round(share * n)}/{n}"


def _cells(run: dict[str, Any], stratum: str, figures: tuple[str, ...]) -> list[str]:
    return [_cell(run["strata"][stratum].get(f, {}), digits=1 if f == FALSE_PER_HOUR else 3) for f in figures]


def _cell(item: dict[str, Any], *, digits: int = 3, signed: bool = False) -> str:
    if item.get("value") is None:
        return UNDEFINED
    text = number(item["value"], digits, signed=signed)
    if item["low"] is not None:
        text += f" [{number(item['low'], digits, signed=signed)}, {number(item['high'], digits, signed=signed)}]"
    return text + (f" ±{number(item['seed_sd'], digits)}" if item.get("seed_sd") is not None else "")


def _p(value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
