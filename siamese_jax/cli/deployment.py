"""Commands that use a trained model: `detect`, `export`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from siamese_jax.cli.console import NOT_ANALYSED, NOTICE, OK, SOME_FAILED, complain, progress_bar, use_compilation_cache
from siamese_jax.cli.recordings import channel_units, describe, duration

if TYPE_CHECKING:
    from siamese_jax.checkpoints import Checkpoint
    from siamese_jax.deployment.annotate import Written
    from siamese_jax.deployment.detect import Detections
    from siamese_jax.deployment.export import Exported


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
        checkpoint: From `siamese-jax train`, RUN/checkpoint; or a folder that `siamese-jax export` wrote.
        out: Folder for what is written; a file's name begins with its recording's.
        threshold: Least probability of an event; default the one that was fixed on validation patients.
        hop: Seconds from one window to the next.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
    """
    use_compilation_cache()
    from siamese_jax.deployment.annotate import write_detections
    from siamese_jax.deployment.detect import detect as run_detection
    from siamese_jax.recordings.edf import read_recording

    if not files:
        raise ValueError("give at least one file to analyse")
    stems = [file.stem for file in files]
    same = sorted({stem for stem in stems if stems.count(stem) > 1})
    if same:
        raise ValueError(f"several files are named {', '.join(same)}: their results would overwrite one another")
    loaded = load_checkpoint(checkpoint)
    data = loaded.config.data
    model = f"{checkpoint}, step {loaded.step}, trained on: {'; '.join(loaded.trained_on)}"
    print(f"model     {model}")
    failed = 0
    for file in files:
        try:
            recording = read_recording(file, ch_names=data.ch_names, sfreq=data.sfreq, units=channel_units(units))
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
            complain(error)
            failed += 1
            continue
        print(detection_text(found, written))
    print(NOTICE)
    if failed:
        return NOT_ANALYSED if failed == len(files) else SOME_FAILED
    return OK


def export(checkpoint: Positional[Path], out: Positional[Path], *, onnx: bool = False) -> int:
    """Writes a trained model as a program that needs no siamese-jax, with parameters and a model card; verified.

    Args:
        checkpoint: From `siamese-jax train`: RUN/checkpoint.
        out: The folder to make.
        onnx: Also write model.onnx; needs `pip install jax2onnx onnx onnxruntime`.
    """
    use_compilation_cache()
    from siamese_jax.deployment.export import check_out
    from siamese_jax.deployment.export import export as run_export
    from siamese_jax.deployment.onnx import check_onnx

    check_out(out)
    if onnx:
        check_onnx()
    loaded = load_checkpoint(checkpoint)
    print(f"model     {checkpoint}, step {loaded.step}, trained on: {'; '.join(loaded.trained_on)}")
    began = time.monotonic()
    exported = run_export(
        loaded,
        out,
        onnx=onnx,
        figures=_figures(checkpoint),
        on_stage=lambda stage: print(f"{time.monotonic() - began:6.1f} s  {stage}", flush=True),
    )
    print(export_text(exported))
    print(f"wrote     {out}, in {time.monotonic() - began:.0f} s")
    print(NOTICE)
    return OK


def load_checkpoint(folder: Path) -> "Checkpoint":
    """A checkpoint or bundle, its thresholds looked at too.

    Raises:
        ValueError: as `checkpoints.load`; or the thresholds are not what `evaluate` writes.
    """
    from siamese_jax import checkpoints
    from siamese_jax.evaluation.metrics import points_from_json

    loaded = checkpoints.load(folder)
    try:
        points_from_json(loaded.operating_points)
    except ValueError as error:
        raise ValueError(f"{folder / 'operating_points.json'}: {error}") from None
    return loaded


def export_text(exported: "Exported") -> str:
    """Each file with its size, each program with its largest error."""
    lines = [f"  {size / 1e3:>9,.0f} kB  {name}" for name, size in exported.files.items()]
    for program, errors in exported.errors.items():
        each = ", ".join(f"{output} {error:.1e}" for output, error in errors.items())
        lines.append(f"verified  {program}: log-odds differ from forward's by at most {each}")
    lines.append(f"          (in a process without flax and siamese-jax; {exported.tolerance:g} is allowed)")
    return "\n".join(lines)


def _figures(checkpoint: Path) -> dict[str, Any]:
    """What `evaluate` wrote beside the checkpoint folder, for the model card."""
    from siamese_jax.typed import parse_json
    from siamese_jax.untrusted import read_text

    text = read_text(checkpoint.parent, "metrics.json")
    figures = {} if text is None else parse_json(text, str(checkpoint.parent / "metrics.json"))
    if not isinstance(figures, dict):
        raise ValueError(f"{checkpoint.parent / 'metrics.json'} is not what `siamese-jax evaluate` writes")
    return figures


def detection_text(found: "Detections", written: "Written") -> str:
    """Counts by stage with their minutes, the threshold and its origin, the files."""
    lines = [f"threshold {found.threshold:.3f} ({found.threshold_origin})"]
    counts = found.counts()
    lines.append(
        f"{counts[-1].events} IEDs in {duration(found.analysed_seconds)} analysed of"
        f" {duration(found.recording_seconds)}"
    )
    lines += [
        f"  {row.stage:<4}{row.events:>6} IEDs {row.minutes:>7.1f} min {_rate(row.per_hour):>8}/h" for row in counts
    ]
    paths = [written.events, written.hypnogram, written.annotations, written.copy, written.run]
    lines.append("wrote     " + "\n          ".join(str(path) for path in paths if path is not None))
    if written.copy is None:
        lines.append(f"note      no annotated copy: {written.copy_refused}")
    return "\n".join(lines)


def _rate(value: float) -> str:
    return f"{value:.1f}" if value == value else "-"  # NaN: none of this stage
