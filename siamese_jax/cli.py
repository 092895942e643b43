"""The command `siamese-jax`: arguments in, sentences out. What costs seconds to import is imported where it is used."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from siamese_jax.config import Config
from siamese_jax.presets import PRESET_HELP, PRESETS

if TYPE_CHECKING:
    from siamese_jax.deployment.annotate import Written
    from siamese_jax.deployment.detect import Detections
    from siamese_jax.recordings.edf import Recording

Preset = Literal["small", "paper"]
PresetConfig = Annotated[
    tyro.extras.subcommand_type_from_defaults(PRESETS, PRESET_HELP, prefix_names=False),
    tyro.conf.arg(name=""),
]
"""A preset's name on the command line, then any field of it: `small --model.fusion gated`."""
NOTICE = "Research use only. Not a medical device. Review the events before any use."
OK, USAGE, NOT_ANALYSED, SOME_FAILED, INTERRUPTED = 0, 2, 3, 5, 130


def info(file: Positional[Path], *, preset: Preset = "small", units: tuple[str, ...] = ()) -> int:
    """Says what a recording holds and which of its channels would be used; prints no patient data.

    Args:
        file: An EDF, EDF+ or BDF file.
        preset: Whose electrodes and rate to ask for.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
    """
    from siamese_jax.recordings.edf import read_recording

    data = PRESETS[preset].data
    recording = read_recording(file, ch_names=data.ch_names, sfreq=data.sfreq, units=_units(units))
    print(describe(recording))
    print(f"marks     {len(recording.annotations)} annotations")
    return OK


def prepare(
    folder: Positional[Path],
    out: Positional[Path | None] = None,
    *,
    check: bool = False,
    preset: Preset = "small",
    channels: tuple[str, ...] = (),
    sfreq: float | None = None,
    window: float | None = None,
    hop: float | None = None,
    manifest: Path | None = None,
    units: tuple[str, ...] = (),
    source: str | None = None,
    seed: int = 0,
) -> int:
    """Makes HDF5 shards, split by patient, of a folder of EDF files whose annotations say where IEDs and stages are.

    Args:
        folder: Searched with all folders in it; with --check, a folder of shards.
        out: Folder for the shards; finished ones are kept.
        check: Verify and summarise the shards in FOLDER instead.
        preset: Whose electrodes, rate and window to use; tell `train` what differs (`--data.sfreq 100`).
        channels: Electrodes or derivations to hold instead of the preset's.
        sfreq: Samples per second instead of the preset's.
        window: Seconds of a window instead of the preset's.
        hop: Seconds from one window to the next; default the window's length.
        manifest: CSV file with columns file, patient, split, ied_labelled; default FOLDER/manifest.csv if it is there.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
        source: Where the recordings come from, in words; every checkpoint trained on the shards says it. Default the
            folder's name.
        seed: Decides, with the patients' names, who is in which split.
    """
    from siamese_jax.recordings import summary
    from siamese_jax.recordings.prepare import prepare as make_shards

    if check == (out is not None):
        raise ValueError("give either a folder and --check, or a folder and where to put its shards")
    if out is None:
        checked = summary.check(folder)
        print(checked.summary.table())
        for error in checked.errors:
            print(f"error: {error}", file=sys.stderr)
        print(f"{len(checked.errors)} errors" if checked.errors else "all shards are sound")
        return NOT_ANALYSED if checked.errors else OK
    given = {"ch_names": channels, "sfreq": sfreq, "window_seconds": window}
    data = dataclasses.replace(PRESETS[preset].data, **{name: value for name, value in given.items() if value})
    with progress_bar() as progress:
        report = make_shards(
            folder,
            out,
            data,
            hop_seconds=data.window_seconds if hop is None else hop,
            seed=seed,
            manifest=manifest,
            units=_units(units),
            source=source,
            progress=progress,
        )
    print(report.text())
    return SOME_FAILED if report.skipped else OK


def train(
    shards: Positional[Path],
    run: Positional[Path],
    config: PresetConfig,
    *,
    devices: int | None = None,
    stop_at: int | None = None,
) -> int:
    """Trains on SHARDS/train, watching SHARDS/validation; goes on where RUN stopped.

    Args:
        shards: From `siamese-jax prepare`.
        run: Folder for checkpoint/ and training.jsonl.
        config: The experiment.
        devices: How many devices; default all there are. On a CPU, N devices are forced.
        stop_at: Save and end after this step, as a time limit would; the same command goes on.
    """
    from siamese_jax.training.parallel import choose_devices

    chosen = choose_devices(devices)
    _use_compilation_cache()
    from siamese_jax.recordings.shards import open_shards
    from siamese_jax.training.loop import train as run_training

    validation = shards / "validation"
    training = tuple(open_shards(shards / "train"))
    watched = tuple(open_shards(validation)) if any(validation.glob("*.h5")) else ()
    print(
        f"training {config.model.size} {config.model.name} for {config.training.steps} steps of"
        f" {config.training.batch_size} windows on {len(chosen)} {chosen[0].platform} device(s)"
        f" by {config.training.parallel}; {len(training)} patients"
    )
    print(filter_text(config))
    with progress_bar() as progress:

        def on_step(step: int, line: Mapping[str, float]) -> None:
            text = f"loss {line['loss']:.3f}, {line['windows_per_second']:.0f} windows/s"
            progress(f"training ({text})", step, config.training.steps)

        outcome = run_training(config, training, watched, run, devices=chosen, stop_at=stop_at, on_step=on_step)
    state = "finished" if outcome.finished else "stopped; the same command goes on"
    print(f"step {outcome.step} of {config.training.steps}: {state}; {outcome.windows_per_second:.0f} windows/s")
    print(f"wrote {run / 'checkpoint'} and {run / 'training.jsonl'}")
    return OK


def evaluate(checkpoint: Positional[Path], shards: Positional[Path], *, out: Path | None = None) -> int:
    """Fixes thresholds on SHARDS/validation, then measures on SHARDS/test, with 95 % bootstraps over patients.

    Args:
        checkpoint: From `siamese-jax train`: RUN/checkpoint. The thresholds are saved in it.
        shards: From `siamese-jax prepare`.
        out: Where the figures go as JSON; default metrics.json beside the checkpoint folder.
    """
    _use_compilation_cache()
    from siamese_jax import checkpoints
    from siamese_jax.evaluation.metrics import points_to_json
    from siamese_jax.recordings.shards import open_shards
    from siamese_jax.training.evaluate import fix_operating_points, report, report_text, score

    loaded = checkpoints.load(checkpoint)
    scores = {}
    with progress_bar() as progress:
        for split in ("validation", "test"):
            opened = open_shards(shards / split)
            total = sum(map(len, opened))
            scores[split] = score(
                loaded.config,
                loaded.tasks,
                loaded.variables,
                opened,
                on_progress=lambda done, split=split, total=total: progress(f"evaluating {split}", done, total),
            )
    points = fix_operating_points(loaded.config, loaded.tasks, scores["validation"])
    checkpoints.write_operating_points(checkpoint, points_to_json(points))
    figures = report(loaded.config, loaded.tasks, scores["test"], points)
    figures["data"] = sorted({shard.info.source for shard in open_shards(shards / "test")})
    path = out or checkpoint.parent / "metrics.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(report_text(figures))
    print(f"wrote {path}; thresholds in {checkpoint / 'operating_points.json'}")
    return OK


def detect(
    files: Positional[tuple[Path, ...]],
    *,
    checkpoint: Path,
    out: Path = Path("detection"),
    threshold: float | None = None,
    hop: float = 1.0,
    units: tuple[str, ...] = (),
) -> int:
    """Finds IEDs and sleep stages in recordings; writes annotated EDF+ and CSV.

    Args:
        files: EDF, EDF+ or BDF files.
        checkpoint: From `siamese-jax train`: RUN/checkpoint.
        out: Folder for what is written; a file's name begins with its recording's.
        threshold: Least probability of an event; default the one that was fixed on validation patients.
        hop: Seconds from one window to the next.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
    """
    _use_compilation_cache()
    from siamese_jax import checkpoints
    from siamese_jax.deployment.annotate import write_detections
    from siamese_jax.deployment.detect import detect as run_detection
    from siamese_jax.recordings.edf import read_recording

    if not files:
        raise ValueError("give at least one file to analyse")
    stems = [file.stem for file in files]
    same = sorted({stem for stem in stems if stems.count(stem) > 1})
    if same:
        raise ValueError(f"several files are named {', '.join(same)}: their results would overwrite one another")
    loaded = checkpoints.load(checkpoint)
    data = loaded.config.data
    model = f"{checkpoint}, step {loaded.step}, trained on: {'; '.join(loaded.trained_on)}"
    print(f"model     {model}")
    failed = 0
    for file in files:
        try:
            recording = read_recording(file, ch_names=data.ch_names, sfreq=data.sfreq, units=_units(units))
            print(describe(recording))
            seconds = sum(segment.n_times for segment in recording.segments) / recording.sfreq
            with progress_bar() as progress:
                found = run_detection(
                    loaded,
                    recording,
                    threshold=threshold,
                    hop_seconds=hop,
                    on_progress=lambda done, total=seconds: progress("detecting", min(done, total), total),
                )
                progress("detecting", seconds, seconds)
            written = write_detections(out, recording, found, model=model)
        except (ValueError, OSError) as error:
            _complain(error)
            failed += 1
            continue
        print(detection_text(found, written))
    print(NOTICE)
    if failed:
        return NOT_ANALYSED if failed == len(files) else SOME_FAILED
    return OK


# --- sentences -------------------------------------------------------------------------------------------------


def describe(recording: "Recording") -> str:
    """What was read, which channels serve, what is in doubt."""
    report = recording.report
    seconds = sum(segment.n_times for segment in recording.segments) / recording.sfreq
    n = len(recording.segments)
    name = recording.path.name if recording.path else "array"
    lines = [f"{name}  {_duration(seconds)}" + (f" in {n} stretches with gaps between" if n > 1 else "")]
    used = f"channels  {int(recording.present.sum())} of {len(recording.ch_names)} used"
    renamed = ", ".join(f"{label}->{name}" for label, name in report.renamed.items())
    lines.append(used + (f"; renamed {renamed}" if renamed else ""))
    if report.missing:
        lines.append(f"missing   {', '.join(report.missing)}")
    if report.ignored:
        by_reason: dict[str, list[str]] = {}
        for label, reason in report.ignored.items():
            by_reason.setdefault(reason, []).append(label)
        lines += [f"not used  {', '.join(labels)}: {reason}" for reason, labels in by_reason.items()]
    lines += [f"note      {warning}" for warning in report.warnings]
    if 2 * recording.present.sum() < len(recording.present):
        lines.append("note      fewer than half of the electrodes: references and judgements rest on little")
    return "\n".join(lines)


def detection_text(found: "Detections", written: "Written") -> str:
    """Counts by stage with their minutes, the threshold and its origin, the files."""
    lines = [f"threshold {found.threshold:.3f} ({found.threshold_origin})"]
    counts = found.counts()
    lines.append(
        f"{counts[-1].events} IEDs in {_duration(found.analysed_seconds)} analysed of"
        f" {_duration(found.recording_seconds)}"
    )
    lines += [
        f"  {row.stage:<4}{row.events:>6} IEDs {row.minutes:>7.1f} min {_rate(row.per_hour):>8}/h" for row in counts
    ]
    paths = [written.events, written.hypnogram, written.annotations, written.copy, written.run]
    lines.append("wrote     " + "\n          ".join(str(path) for path in paths if path is not None))
    if written.copy is None:
        lines.append(f"note      no annotated copy: {written.copy_refused}")
    return "\n".join(lines)


def filter_text(config: Config) -> str:
    """The filters' gain at 0 Hz, at their edges and at the mains."""
    from siamese_jax.signals.preprocess import filter_report

    return "\n".join(
        f"filter    {kind}: " + ", ".join(f"{gain:.0f} dB at {hz:g} Hz" for hz, gain in gains.items())
        for kind, gains in filter_report(config).items()
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _rate(value: float) -> str:
    return f"{value:.1f}" if value == value else "-"  # NaN: none of this stage


def _units(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.rpartition("=") for text in given]
    wrong = [text for text, (channel, _, unit) in zip(given, pairs, strict=True) if not channel or not unit]
    if wrong:
        raise ValueError(f"--units takes CHANNEL=UNIT, given {wrong[0]!r}")
    return {channel: unit for channel, _, unit in pairs}


def _complain(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)


# --- running ---------------------------------------------------------------------------------------------------


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float, float], None]]:
    """A bar on standard error, told `(what, done, total)`; a new `what` that begins at 0 starts afresh."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("")

        def update(what: str, done: float, total: float) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield update


def _use_compilation_cache() -> None:
    """Keep what JAX compiled from one command to the next: a second run starts in a second."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "siamese-jax" / "jax"))


COMMANDS: dict[str, Callable[..., int]] = {
    "info": info,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "detect": detect,
}


def main() -> None:
    """The command line."""
    description = "IEDs and sleep stages from scalp EEG. " + NOTICE
    run(lambda: tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="siamese-jax", description=description))


def run(command: Callable[[], int]) -> None:
    """Run a command and exit; a mistake of the user's ends in one sentence, not in a stack trace."""
    try:
        code = command()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (ValueError, OSError, FloatingPointError) as error:
        _complain(error)
        code = NOT_ANALYSED
    sys.exit(code)


if __name__ == "__main__":
    main()
