"""The model that comes with the package, made anew: `python -m experiments.weights BACKGROUNDS OUT --real FOLDER`.

    simulate -> implant into BACKGROUNDS -> prepare both -> train -> fix-thresholds -> siamese_jax/weights/ied

It learns from no recording that anybody marked. People of an uneven number in BACKGROUNDS do not teach it: its
thresholds are fixed on implants into their recordings. Each command is printed before it is run. The same command goes
on where an earlier one stopped.
"""

import csv
import dataclasses
import io
import itertools
import re
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from data_tools import implant, simulate
from experiments.pages import number, table
from experiments.provenance import made_by
from experiments.real import evaluate_scorers
from experiments.real.page import page
from experiments.real.scorers import checkpoint_scorer, plain_scorers
from siamese_jax import checkpoints, weights
from siamese_jax.checkpoints import Checkpoint, Thresholds
from siamese_jax.cli.console import OK, SOME_FAILED, run, use_compilation_cache
from siamese_jax.cli.main import command
from siamese_jax.cohort.bids_files import DESCRIPTION
from siamese_jax.cohort.sources import recording_files
from siamese_jax.detection.results import sha256
from siamese_jax.detection.score import found_and_real, score
from siamese_jax.evaluation.metrics import at_rate
from siamese_jax.files import finite, write_text
from siamese_jax.identity import Origin, Training
from siamese_jax.recordings.sidecars import MANIFEST, read_manifest
from siamese_jax.shards.schema import open_shards
from siamese_jax.vocabulary import IED

PATIENTS, MINUTES, COPIES, STEPS = 200, 15.0, 20, 3600
LEARNING = (
    *("--training.faults", "0.35", "--preprocess.limit-uv", "500", "--training.electrode-dropout", "0.15"),
    *("--training.checkpoint-every", "200"),
)
SOURCE = "SIMULATED recordings (data_tools.simulate), and SIMULATED discharges (data_tools.implant) in recordings of {}"

PROBABILITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01)
"""Edges of what the card tells apart."""

People = dict[str, dict[str, list[str]]]
"""By split and person their recordings, as paths in the folder."""


def main(
    backgrounds: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    *,
    to: Path = weights.HOME / weights.DEFAULT,
    source: str | None = None,
    real: Path | None = None,
    checkpoint: Path | None = None,
    patients: int = PATIENTS,
    minutes: float = MINUTES,
    copies: int = COPIES,
    steps: int = STEPS,
) -> int:
    """Make the model that comes with the package.

    Args:
        backgrounds: EDF files of people without discharges. Who is who, and whose recordings only fix thresholds
            (split `validation`), is in its manifest.csv; without one, a person is a file's name up to the last `_`
            where several files share that, and those with an uneven number at its end fix thresholds.
        out: Everything on the way lands here; what is finished is kept.
        to: Folder for the model.
        source: Where the backgrounds come from, whose they are and under which terms, in words; default the folder's
            name. It stands in the model and on its card.
        real: Folder of real recordings, as for experiments.real: their figures stand on the card.
        checkpoint: Take this one, made of BACKGROUNDS as above, with its thresholds, instead of making one.
        patients: How many are simulated.
        minutes: Length of each simulated recording.
        copies: Of each background, with other events in each.
        steps: Of training.
    """
    use_compilation_cache()
    out.mkdir(parents=True, exist_ok=True)
    source = source or backgrounds.resolve().name
    manifest = _manifest(backgrounds, out)
    people = _people(manifest)
    given = checkpoint is not None
    if checkpoint is None:
        amounts = {"patients": patients, "minutes": minutes, "copies": copies, "steps": steps}
        checkpoint = _make(backgrounds, manifest, out, SOURCE.format(source), **amounts)
    model = _published(checkpoints.load(checkpoint), backgrounds, people)
    checkpoints.write(to, model)
    write_text(to / weights.CARD, _card(model, people, source, real, out / "shards" / "validation", given=given))
    print(f"\nwrote {to}, with its card")
    return OK


def _make(
    backgrounds: Path, manifest: Path, out: Path, source: str, *, patients: int, minutes: float, copies: int, steps: int
) -> Path:
    """Simulate, implant, prepare, train, fix thresholds; the checkpoint."""
    recordings, shards, checkpoint = out / "recordings", out / "shards", out / "run" / "checkpoint"
    simulated, implanted = recordings / "simulated", recordings / "implanted"
    _do(
        "python -m data_tools.simulate",
        lambda words: tyro.cli(simulate.main, args=words),
        [simulated, "--patients", patients, "--minutes", f"{minutes:g}", "--sfreq", 200, "--seed", 14],
    )
    _do(
        "python -m data_tools.implant",
        lambda words: tyro.cli(implant.main, args=words),
        [backgrounds, implanted, "--copies", copies, "--seed", 1, "--manifest", manifest],
    )
    rows = [("file", "patient", "split")]
    rows += [(path.relative_to(recordings), path.stem, "train") for path in sorted(simulated.glob("*.edf"))]
    rows += [(f"implanted/{name}", row.patient, row.split) for name, row in read_manifest(implanted / MANIFEST).items()]
    _write_table(recordings / MANIFEST, rows)
    # Copies of a short recording in which no event was drawn are alike: one of them is taken.
    prepare = ["prepare", recordings, shards, "--hop", 1, "--source", source]
    _do("siamese-jax", command, prepare, accepted=(OK, SOME_FAILED))
    options = ("--training.steps", steps, "--training.warmup-steps", steps // 24, *LEARNING)
    options += ("--training.evaluate-every", steps)
    _do("siamese-jax", command, ["train", shards, out / "run", "--devices", 1, *options])
    _do("siamese-jax", command, ["fix-thresholds", checkpoint, shards])
    return checkpoint


def _do(
    program: str,
    work: Callable[[list[str]], int],
    arguments: Sequence[object],
    *,
    accepted: Sequence[int] = (OK,),
) -> None:
    """Print a command and run it; one whose exit code is not accepted ends the whole."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {program} {shlex.join(words)}", flush=True)
    code = work(words)
    if code not in accepted:
        print(f"stopped: {program} {words[0]} ended with exit code {code}", file=sys.stderr)
        raise SystemExit(code)


# --- people -----------------------------------------------------------------------------------------------------------


def _manifest(backgrounds: Path, out: Path) -> Path:
    """The manifest of the backgrounds; one is written to OUT where they have none.

    Raises:
        ValueError: a BIDS data set without one, a person without a number, nobody of an even or of an uneven one.
    """
    if (backgrounds / MANIFEST).exists():
        return backgrounds / MANIFEST
    if (backgrounds / DESCRIPTION).exists():
        raise ValueError(f"{backgrounds} is a BIDS data set: it needs a {MANIFEST} with columns file, patient, split")
    files = [path.relative_to(backgrounds) for path in recording_files(backgrounds)]
    n_files = Counter(path.stem.rpartition("_")[0] for path in files)
    rows = []
    for path in files:
        before = path.stem.rpartition("_")[0]
        person = before if before and n_files[before] > 1 else path.stem
        digits = re.search(r"\d+", person)
        if digits is None:
            raise ValueError(f"{backgrounds}: {path} names no person by a number: write a {MANIFEST} with splits")
        rows.append((path.as_posix(), person, "validation" if int(digits[0]) % 2 else "train"))
    if {row[2] for row in rows} != {"train", "validation"}:
        raise ValueError(f"{backgrounds} needs people of even numbers, and of uneven ones to fix thresholds on")
    _write_table(out / "backgrounds.csv", [("file", "patient", "split"), *rows])
    return out / "backgrounds.csv"


def _people(manifest: Path) -> People:
    people: People = {"train": defaultdict(list), "validation": defaultdict(list)}
    for name, row in read_manifest(manifest).items():
        if row.patient is None or row.split not in people:
            raise ValueError(f"{manifest}: {name} needs a patient, and a split that is train or validation")
        people[row.split][row.patient].append(name)
    return people


def _write_table(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())


# --- what is published ------------------------------------------------------------------------------------------------


def _published(model: Checkpoint, backgrounds: Path, people: People) -> Checkpoint:
    """The checkpoint as others get it: with what of its identity means the same on their machines.

    Digests of recordings stay, and those of the backgrounds themselves are added: `evaluate` and `detect` know them
    anywhere. Names of patients here (`SIM0001`) are names of others elsewhere, so the salt, by which they could be
    recognised, goes; their number stays. Fingerprints of shards go.
    """
    digests = {
        split: {sha256(backgrounds / name) for names in persons.values() for name in names}
        for split, persons in people.items()
    }

    def published(origin: Origin, split: str) -> Origin:
        recordings = tuple(sorted({*origin.recordings, *digests[split]}))
        return dataclasses.replace(origin, salt="", recordings=recordings, shards=())

    def run_of(training: Training) -> Training:
        learnt, watched = published(training.training, "train"), published(training.validation, "validation")
        return dataclasses.replace(training, training=learnt, validation=watched)

    runs, thresholds = tuple(run_of(training) for training in model.identity.runs), model.thresholds
    if thresholds is None:
        raise ValueError("the checkpoint has no thresholds: run `siamese-jax fix-thresholds` on implants into others")
    fixed = dataclasses.replace(thresholds, fixed_on=published(thresholds.fixed_on, "validation"))
    return model._replace(identity=dataclasses.replace(model.identity, runs=runs), thresholds=fixed)


def _card(model: Checkpoint, people: People, source: str, real: Path | None, shards: Path, *, given: bool) -> str:
    """Markdown: what it is, what it learnt from, thresholds, figures, where it fails."""
    config, thresholds = model.config, model.thresholds
    n_learnt, n_fixed = (len(people[split]) for split in ("train", "validation"))
    about = made_by("python -m experiments.weights BACKGROUNDS OUT")
    lines = [
        f"# {weights.DEFAULT}: interictal epileptiform discharges in scalp EEG, and sleep stages",
        "",
        "**Research use only. Not a medical device.** Whoever runs it must review what it finds.",
        "",
        f"`{config.model.title}`, {model.step} updates. It takes {', '.join(config.data.ch_names)} at"
        f" {config.data.sfreq:g} Hz; electrodes may be missing.",
        "",
        "## What it learnt from",
        "",
        f"{'; '.join(model.trained_on)}. No recording that anybody marked.",
        "",
        f"Backgrounds: {source}. It learnt from {n_learnt} of these people; the thresholds were fixed on simulated"
        f" discharges in recordings of {n_fixed} others. All copies of a recording share its background: the hours"
        " below count the same EEG several times.",
        "",
        "## Thresholds",
        "",
        *_threshold_table(thresholds),
        "",
        "## Probabilities",
        "",
        *_reliability(model, shards),
        "",
        "## Real recordings",
        "",
        *_figures(model, real),
        "",
        "## Where it fails",
        "",
        "- Its discharges and its sleep are simulated: shapes that the simulator lacks are not known to it, and stages"
        " are no better than that.",
        f"- Its backgrounds come from {n_learnt} people. Other amplifiers, ages, states and illnesses may raise more"
        " false events than the rates above.",
        "- Probabilities are those of the simulated discharges above: where discharges are rarer, fewer of the events"
        " of one probability are real.",
        "- The shapes of the simulated discharges and the faults in training were chosen with these real recordings at"
        " hand, the faults after a look at false events in the people of EEGMAT that are scored: on recordings from"
        " elsewhere it may do worse.",
        "",
        *(
            ["Its checkpoint was given (`--checkpoint`): the steps of this command were run by hand.", ""]
            if given
            else []
        ),
        f"Made by `{about['command']}`, commit {about['commit']}, {about['date']}.",
    ]
    return "\n".join([*lines, ""])


def _threshold_table(thresholds: Thresholds | None) -> list[str]:
    points = thresholds.points if thresholds else ()
    head = ("operating point", "threshold", "sensitivity", "precision", "false events an hour", "95 % upper limit")
    rows = []
    for point in points:
        figures = point.threshold, point.sensitivity, point.precision, point.false_per_hour, point.false_per_hour_limit
        rows.append((f"{point.task} {point.criterion}", *(number(finite(figure)) for figure in figures)))
    hours = max((point.hours for point in points if point.of_events), default=0.0)
    words = f" Events: {hours:.1f} h." if hours else ""
    return [*table(head, rows), "", f"They were {thresholds.text()}.{words}" if thresholds else "None."]


def _reliability(model: Checkpoint, shards: Path) -> list[str]:
    """How many events of each probability are real, where thresholds were fixed."""
    if not shards.exists():
        return ["Not measured: the shards on which thresholds were fixed are not there."]
    events = score(model.config, model.tasks, model.variables, open_shards(shards)).events[IED.name]
    chance, real = (np.concatenate(column) for column in zip(*(found_and_real(one) for one in events), strict=True))
    rows = []
    for low, high in itertools.pairwise(PROBABILITIES):
        inside = (chance >= low) & (chance < high)
        if inside.any():
            means = number(float(chance[inside].mean()), 2), number(float(real[inside].mean()), 2)
            rows.append((f"{low:g} to {min(high, 1):g}", str(int(inside.sum())), *means))
    words = "Events in the recordings on which thresholds were fixed, and the share that was put in (SIMULATED)."
    return [words, "", *table(("probability", "events", "mean probability", "share that is real"), rows)]


def _figures(model: Checkpoint, real: Path | None) -> list[str]:
    """The page of experiments.real without its title, of real recordings of nobody that the model learnt from."""
    if real is None:
        return ["Not measured: `--real FOLDER` was not given."]
    learnt = [path for path in (real / "eegmat").glob("Subject*.edf") if sha256(path) in model.identity.recordings]
    leave_out = sorted({path.stem.split("_")[0] for path in learnt})
    scorers = plain_scorers() | {weights.DEFAULT: checkpoint_scorer(model)}
    for point in model.points:
        if point.criterion == at_rate(1):
            scorers[f"{weights.DEFAULT} --false-per-hour 1"] = checkpoint_scorer(model, threshold=point.threshold)
    tree: dict[str, Any] = evaluate_scorers(real, scorers, leave_out=leave_out)
    words: Mapping[str, str] = {name: scorer.words for name, scorer in scorers.items()}
    tree |= {"what": "", "scorers": words, "left_out": leave_out, "cpu_seconds": 0, **made_by("experiments.real")}
    return page(finite(tree)).splitlines()[2:-2]


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
