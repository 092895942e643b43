"""The page: simulator.md, from its tree of numbers and from nothing else."""

from collections.abc import Iterable, Sequence
from typing import Any

from experiments import pages
from experiments.pages import table
from experiments.simulator.measures import BANDS
from siamese_jax.vocabulary import STAGES

Tree = dict[str, Any]


def number(value: float | None, digits: int = 2) -> str:
    """A number with two digits after the point, unless given otherwise."""
    return pages.number(value, digits)


def page(tree: Tree) -> str:
    """The page; its pictures are those that `figures` draws."""
    parts = (_head, _summary, _spectra, _spindles, _events, _fields, _stages, _apart, _cost)
    return "\n".join(line for part in parts for line in (*part(tree), ""))


def _spread(values: Sequence[float | None] | None, digits: int = 2) -> str:
    """Median (10 to 90 %)."""
    if values is None:
        return "-"
    low, median, high = (number(value, digits) for value in values)
    return median if low == high == median else f"{median} ({low} to {high})"


def _head(tree: Tree) -> list[str]:
    real, simulated = tree["real"], tree["simulated"]
    minutes = tree["minutes"]
    rows = [[name, *(number(minutes[name][stage], 0) for stage in STAGES)] for name in real["subjects"]]
    own = [m for name, m in minutes.items() if name not in real["subjects"]]
    rows.insert(0, [f"{len(own)} SIMULATED patients", *(number(sum(m[s] for m in own), 0) for s in STAGES)])
    return [
        f"# {tree['what']}",
        "",
        f"SIMULATED: {simulated['patients']} patients of `{simulated['command']}`. Real: {', '.join(real['subjects'])}"
        f" (one derivation each) and half {real['half']} of `{real['eeglab']}`. The simulator was tuned on DREAMS 2 and"
        " 4 and on half 1, if on anything, and never on what is reported. So few real people say where the simulator is"
        " wrong; they cannot say that it is right.",
        "",
        f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}, seed {tree['settings']['seed']}. Every number"
        " and more stand in `simulator.json`.",
        "",
        "Minutes of each stage:",
        "",
        *table(["", *STAGES], rows),
        "",
        "DREAMS has no R: nothing here says whether the simulated R is right.",
    ]


def _summary(tree: Tree) -> list[str]:
    apart, stages = tree["apart"]["combined"], tree["stages"]
    n_inside, n_bands = _bands_inside(tree)
    name, one = max(tree["apart"]["single"].items(), key=lambda item: abs((item[1]["auroc"] or 0.5) - 0.5))
    return [
        "## In short",
        "",
        f"- Band powers of real stages inside the simulated patients' 10-90 %: {n_inside} of {n_bands}.",
        f"- A classifier distinguishes 4 s of simulated from real EEG with an AUROC of {number(apart['all']['auroc'])}"
        f" (.5: not at all), by shape alone {number(apart['shape']['auroc'])}, by level alone"
        f" {number(apart['level']['auroc'])}, having learnt from {len(tree['apart']['people']) - 1} real people;"
        f" the strongest single feature is {name} ({number(one['auroc'])}).",
        f"- Stages found by a simple classifier in people it has not seen: kappa {number(stages['real'])} real,"
        f" {_spread(stages['simulated_matched'])} simulated.",
    ]


def _bands_inside(tree: Tree) -> tuple[int, int]:
    flags = [
        inside
        for one in tree["spectra"]["real"].values()
        for own in one["stages"].values()
        for inside in own.get("within_10_90", {}).values()
    ]
    return sum(flags), len(flags)


def _spectra(tree: Tree) -> list[str]:
    rows = []
    for name, one in tree["spectra"]["real"].items():
        for stage, own in one["stages"].items():
            if "level_db" not in own:
                continue
            cells = [
                f"{own['shape_db'][band]:+.1f}{'' if inside else ' *'}" for band, inside in own["within_10_90"].items()
            ]
            cells += ["-"] * (5 - len(cells))
            theirs = tree["spectra"]["simulated"][one["ch_name"]][stage]["slope"]
            rows.append([name, stage, f"{own['level_db']:+.1f}", *cells, number(own["slope"]), _spread(theirs)])
    n_inside, n_bands = _bands_inside(tree)
    header = ["", "stage", "level, dB", *(f"{b}, dB" for b in ("delta", "theta", "alpha", "sigma", "beta"))]
    return [
        "## 1. Spectra by stage",
        "",
        "![Power spectral density by stage, simulated and real](spectra.png)",
        "",
        "Real minus the simulated median of the same derivation, in level (mean over the bands) and shape (what is left"
        f" in each band: delta 1-4, theta 4-8, alpha 8-12, sigma 12-16, beta 16-30 Hz). A star: the band's power lies"
        f" outside the simulated patients' 10-90 %. {n_inside} of {n_bands} lie inside, where 80 % would if the real"
        " people were drawn from the simulator.",
        "",
        *table([*header, "slope, 2-30 Hz", "simulated slope"], rows),
        "",
        "Share of each stage in slow waves of more than 75 uV from peak to peak (0.5-2 Hz); AASM scores N3 from 20 %:",
        "",
        *table(
            ["", *STAGES],
            (
                [n, *(_spread(v[s]) if isinstance(v.get(s), list) else number(v.get(s)) for s in STAGES)]
                for n, v in tree["slow_waves"].items()
            ),
        ),
    ]


def _spindles(tree: Tree) -> list[str]:
    rows = [
        [
            *(name, str(row["n"]), _spread(row["hz"], 1), number(row["hz_spread_within_person"])),
            *(_spread(row["amplitude_uv"], 1), _spread(row["seconds"])),
            *(_spread(row["marked_seconds"]), _spread(row["per_minute"], 1)),
        ]
        for name, row in tree["spindles"].items()
    ]
    return [
        "## 2. Spindles",
        "",
        "![Spindles as annotated and as marked by experts](spindles.png)",
        "",
        "Of N2; median (10 to 90 %), everything but `marked` measured by the same code at the marks. Expert 2 marked"
        " onsets only (1 s is looked at). Experts miss what does not stand out, the simulator's annotations do not:"
        " amplitude and density are of what was put in on one side, of what was seen on the other.",
        "",
        *table(
            [
                *("", "spindles", "Hz", "SD of Hz within a person", "envelope, uV"),
                *("seconds above half", "seconds marked", "a minute"),
            ],
            rows,
        ),
    ]


def _events(tree: Tree) -> list[str]:
    rows = [[kind, str(row["n"]), *_event_cells(row), row["source"]] for kind, row in tree["events"].items()]
    discharges = [
        [f"{kind}, {one['patient']}", one["channel"], str(one["n"])]
        + [number(1000 * one[name], 0) for name in ("rise_seconds", "fall_seconds")]
        + [number(one["after_wave_gain"])]
        for kind, found in tree["discharges"].items()
        for one in found
    ]
    verdicts = [
        row[name]["verdict"]
        for row in tree["events"].values()
        for name in _RANGED
        if name in row and "range" in row[name]
    ]
    own = tree["ied_windows"]
    ranged = [v for v in verdicts if v != "no range"]
    return [
        "## 3. Events against published ranges (keys 7.1 and 7.2 of data_tools/simulator/physiology.py)",
        "",
        f"In range: yes (80 % of the events) {ranged.count('yes')}, mostly (the median) {ranged.count('mostly')}, no"
        f" {ranged.count('no')} of {len(ranged)}. `put in` is events.csv; the rest is measured in the recording"
        " at the event's electrode, background and all: `alone` is what the same measure gives in the same stage where"
        " there is no event, so an event that is hardly larger cannot be measured so. R: RECALL.",
        "",
        *table(
            [
                *("kind", "n", "put in, uV", "measured, uV", "alone, uV", "duration, s"),
                *("sharpest wave, ms", "Hz", "source"),
            ],
            rows,
        ),
        "",
        "Mean discharges that stand alone (ten at least), by patient. IFCN: the rise is shorter than"
        " the fall; after-wave 0.5 to 1.5 of the spike (RECALL), recipe of 7.1: 0.4 to 1.2.",
        "",
        *table(["", "electrode", "n", "rise, ms", "fall, ms", "after-wave / peak"], discharges),
        "",
        f"Windows of 4 s that a discharge begins in: awake {own['wake']:.1%}, asleep {own['sleep']:.1%}, all"
        f" {own['all']:.1%} ({own['patients_with']} of {tree['simulated']['patients']} patients have any). vEpiSet,"
        " 52 of 84 patients: awake 6.4 %, asleep 13.0 %, all 9.9 % (3.2: FACT); EpiSet-260K: all 4.4 %."
        f" Amplitude over background: {_spread(own['snr'], 1)}; recipe of 7.1: median 3 (INFERENCE).",
    ]


_RANGED = ("put_in_uv", "amplitude_uv", "seconds", "wave_seconds", "hz")


def _event_cells(row: Tree) -> list[str]:
    def cell(name: str, *, scale: float = 1.0, digits: int = 0) -> str:
        if name not in row:
            return "-"
        own = row[name]
        text = _spread([own[q] * scale for q in ("low", "median", "high")], digits)
        if own["range"] is None:
            return text
        low, high = (None if bound is None else f"{bound * scale:g}" for bound in own["range"])
        return f"{text}; **{own['verdict']}** {'>= ' + str(low) if high is None else f'{low}-{high}'}"

    return [
        *(cell("put_in_uv"), cell("amplitude_uv"), number(row.get("background_uv"), 0)),
        *(cell("seconds", digits=2), cell("wave_seconds", scale=1000), cell("hz", digits=1)),
    ]


def _fields(tree: Tree) -> list[str]:
    fields = tree["fields"]
    rows = []
    for name, band in fields["bands"].items():
        one = band["correlation"]
        cells = [
            f"{number(real)} / {_spread((low, median, high))}"
            for real, low, median, high in zip(one["real"], one["low"], one["median"], one["high"], strict=True)
        ]
        rows.append([name, *cells])
    edges = fields["edges_degrees"]
    several = [
        [name, number(one["real"]), _spread(one["simulated"]), number(one["auroc"])]
        for name, one in fields["several_channels"].items()
    ]
    return [
        "## 4. Electrodes together",
        "",
        "![Correlation by distance and field of power](fields.png)",
        "",
        f"Against the average of {len(fields['ch_names'])} electrodes that both have, in wakefulness: real / simulated"
        f" (10 to 90 % of {fields['patients']} patients), by the angle between electrodes. The real one is one healthy"
        " person at a visual task with open eyes; simulated wakefulness has closed eyes, too.",
        "",
        *table(["", *(f"{a}-{b}°" for a, b in zip(edges[:-1], edges[1:], strict=True))], rows),
        "",
        "Windows of 4 s, 1-30 Hz; AUROC of that one person against simulated patients:",
        "",
        *table(["", "real", "simulated", "AUROC"], several),
    ]


def _stages(tree: Tree) -> list[str]:
    own = tree["stages"]
    by_person = ", ".join(number(value) for value in own["real_by_person"])
    within = ", ".join(number(value) for value in own["real_within_person"])
    mix = ", ".join(f"{s} {n:.0f}" for s, n in zip(STAGES, own["epochs_of_a_real_person"], strict=True))
    return [
        "## 5. Are simulated stages as hard as real ones?",
        "",
        "![Kappa and confusion of a simple classifier](stages.png)",
        "",
        "Linear discriminant analysis on five log band powers of 30-s epochs of one derivation, one person left out"
        " at a time.",
        "",
        *table(
            ["", "kappa"],
            [
                [f"real, DREAMS {own['tested']} (trained on the others of {own['trained_on']})", number(own["real"])],
                ["real, by person", by_person],
                ["simulated, as few people and epochs as real ones", _spread(own["simulated_matched"])],
                ["simulated, the same, by person", _spread(own["simulated_matched_by_person"])],
                ["simulated, all", number(own["simulated_all"])],
                ["real, trained and tested within a person", within],
                ["simulated, trained and tested within a person", _spread(own["simulated_within_person"])],
            ],
        ),
        "",
        "Why: how much power changes within a stage. SD over 4-s windows in dB / correlation of neighbouring windows"
        " (simulated: median of patients); stages of 5 min at least:",
        "",
        *table(["", *BANDS], _unrest_rows(tree["unrest"])),
        "",
        f"Epochs of a real person on average, which the simulated ones are cut to: {mix}. Real stages are what one"
        " expert said by the rules of 1968 for 5-s steps (two experts agree to a kappa of some .76: RECALL);"
        " simulated ones are what was simulated.",
    ]


def _unrest_rows(unrest: Tree) -> Iterable[list[str]]:
    for stage, rows in unrest.items():
        if rows["simulated"] and rows["real"]:
            cells = [f"{number(sd[1], 1)} / {number(near[1])}" for sd, near in rows["simulated"].values()]
            yield [f"{stage}, simulated", *cells]
            for name, own in rows["real"].items():
                cells = [f"{number(own[b][0], 1)} / {number(own[b][1])}" if b in own else "-" for b in BANDS]
                yield [f"{stage}, {name}", *cells]


def _apart(tree: Tree) -> list[str]:
    apart = tree["apart"]
    people = ", ".join(apart["people"])
    combined = [
        [name, number(one["auroc"]), ", ".join(number(v) for v in one["by_person"]), _spread(one["no_difference"])]
        for name, one in apart["combined"].items()
    ]
    ranked = sorted(apart["single"].items(), key=lambda item: -abs((item[1]["auroc"] or 0.5) - 0.5))
    single = [
        [name, number(one["auroc"]), ", ".join(number(v) for v in one["by_person"]), number(one["no_difference"])]
        for name, one in ranked
    ]
    recorder = [
        [name, number(one["auroc"]), ", ".join(number(v) for v in one["by_person"])]
        for name, one in apart.get("recorder", {}).items()
    ]
    beyond = sum(abs(one["auroc"] - 0.5) > one["no_difference"] for one in apart["single"].values())
    return [
        "## 6. What still distinguishes simulated from real",
        "",
        "![AUROC of single features and of a classifier](apart.png)",
        "",
        f"Windows of 4 s of one derivation, 1-30 Hz at 100 Hz, matched by stage ({people}; windows in which the"
        " recorder was saturated are left out). Logistic regression on all features, tested on people it has not seen;"
        " .5 is what a perfect simulator would give. `no difference`: what as many simulated patients give against the"
        f" other simulated ones (5 to 95 %). {len(apart['people'])} real people are few, to test on and to"
        " learn from: an AUROC near .5 here does not mean that nobody could tell. Single features that lie beyond `no"
        " difference` for every person are the surer sign.",
        "",
        *table(["features", "AUROC", f"by person ({people})", "no difference"], combined),
        "",
        "Single features: P(a real window has more than a simulated one). `no difference`: 90 % of draws of as many"
        f" simulated patients lie nearer to .5 than this. {beyond} of {len(single)} features lie further.",
        "",
        *table(["feature", "AUROC", f"by person ({people})", "no difference, .5 +-"], single),
        "",
        f"What recorders leave (unfiltered, 200 Hz, {', '.join(apart.get('recorder_people', ())) or 'nobody'}); it"
        " distinguishes recorders, not brains; whoever trains on simulated and tests on real EEG should take it away:",
        "",
        *table(["", "AUROC", "by person"], recorder),
    ]


def _cost(tree: Tree) -> list[str]:
    cost = tree["cost"]
    per_core = 3600 * cost["hours"] / cost["cpu_seconds"] if cost["cpu_seconds"] else None
    per_wall = 3600 * cost["hours"] / cost["wall_seconds"]
    return [
        "## 7. Throughput",
        "",
        f"`{cost['command']}`: {cost['hours']:g} simulated hours of 29 leads at 500 Hz in {cost['cpu_seconds']:.1f} s"
        f" of CPU ({number(per_core, 0)} times real time per core, start of Python included) and"
        f" {cost['wall_seconds']:.1f} s by the clock ({per_wall:.0f} times; the machine was shared);"
        f" {cost['bytes'] / cost['hours'] / 1e6:.0f} MB an hour.",
    ]
