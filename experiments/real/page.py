"""The figures as one table in Markdown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.pages import UNDEFINED, number, table


class Row(NamedTuple):
    """A figure in words; what is wanted of it; what SpikeNet has."""

    words: str
    wanted: str
    spikenet: str
    digits: int = 3


ROWS = {
    "grond_segments": Row(
        "GROND: largest score of a segment, periodic discharges against rhythmic delta: AUROC", "> .99", "0.976"
    ),
    "grond_windows_auroc": Row(
        "GROND: 1 s around each reviewed discharge against 1 s of rhythmic delta: AUROC", "> .96", "0.950"
    ),
    "grond_windows_auprc": Row("the same: AUPRC", "> .96", "0.949"),
    "grond_timing": Row(
        "Timing: frames within 0.1 s of a discharge against those 0.25 s and more from all: mean AUROC by segment",
        "> .95",
        "0.848",
    ),
    "vecams_segments": Row(
        "VE-CAM-S: largest score, caption names GPD, LPD or BiPD against the rest: AUROC", "> .95", "0.895"
    ),
    "iiic_segments": Row(
        "IIIC: largest score in 20 to 30 s, LPD and GPD against the others, no seizures: AUROC", "> .98", "0.948"
    ),
    "snippets_found": Row("Snippets: marked spikes with an event within 0.1 s", "all", UNDEFINED, 0),
    "snippets_false": Row("Snippets: events in the normal one", "0", UNDEFINED, 0),
    "eegmat_per_hour": Row("EEGMAT, healthy people: events an hour", "<= 1", "17.2", 1),
}
SPIKENET = (
    "SpikeNet (Jing et al., JAMA Neurology 2020), trained on 1,051 labelled clinical EEGs, is not run here: its figures"
    " on these recordings are quoted from a measurement outside this project."
)
HOW = (
    "Real recordings. No detector may learn from them, except from EEGMAT's as background: then those people are left"
    " out (`--leave-out`). In brackets: 95 % from drawing patients. Segments of GROND, VE-CAM-S and IIIC do not say"
    " whose they are, so each counts as a patient, and the interval is too narrow if some share one. Of one patient"
    " there is none. Events an hour: the wider of that and of a Poisson count. Of GROND and VE-CAM-S the first and last"
    " second are left out, where filters have not settled; windows around discharges lie wherever these do. `amplitude`"
    " and `sharpness` are plain properties of the signal: they show how hard a question is, and find no events."
)


def page(tree: Mapping[str, Any]) -> str:
    """The page of what `evaluate_scorers` returned, with None for what is undefined."""
    figures = tree["figures"]
    head = ("figure", "rests on", *figures, "SpikeNet", "wanted")
    rows = []
    for key, row in ROWS.items():
        known = [own[key] for own in figures.values() if key in own]
        if known:
            cells = [_cell(own.get(key), row.digits) for own in figures.values()]
            rows.append((row.words, known[0]["rests_on"], *cells, row.spikenet, row.wanted))
    lines = [f"# {tree['what']}", "", HOW, "", *table(head, rows), "", SPIKENET, ""]
    lines += [f"- `{name}`: {words}" for name, words in tree["scorers"].items()]
    lines += ["", "Not there, and left out:", "", *(f"- {what}" for what in tree["missing"])] if tree["missing"] else []
    lines += ["", f"People of EEGMAT left out: {', '.join(tree['left_out'])}."] if tree["left_out"] else []
    ends = f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}, {tree['cpu_seconds']} s of CPU."
    return "\n".join([*lines, "", ends, ""])


def _cell(figure: Mapping[str, Any] | None, digits: int) -> str:
    if figure is None:
        return UNDEFINED
    interval = f" [{number(figure['low'], digits)}, {number(figure['high'], digits)}]"
    return number(figure["value"], digits) + ("" if figure["low"] is None else interval)
