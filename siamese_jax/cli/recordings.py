"""Commands about recordings and shards: `info`, `prepare`."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from siamese_jax.cli.console import NOT_ANALYSED, OK, SOME_FAILED, progress_bar
from siamese_jax.presets import PRESETS

if TYPE_CHECKING:
    from siamese_jax.recordings.edf import Recording

Preset = Literal["small", "paper"]


def info(file: Positional[Path], *, preset: Preset = "small", units: tuple[str, ...] = ()) -> int:
    """Says what a recording holds and which of its channels would be used; prints no patient data.

    Args:
        file: An EDF, EDF+ or BDF file.
        preset: Whose electrodes and rate to ask for.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
    """
    from siamese_jax.recordings.edf import read_recording

    data = PRESETS[preset].data
    recording = read_recording(file, ch_names=data.ch_names, sfreq=data.sfreq, units=channel_units(units))
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
            units=channel_units(units),
            source=source,
            progress=progress,
        )
    print(report.text())
    return SOME_FAILED if report.skipped else OK


def describe(recording: "Recording") -> str:
    """What was read, which channels serve, what is in doubt."""
    report = recording.report
    seconds = sum(segment.n_times for segment in recording.segments) / recording.sfreq
    n = len(recording.segments)
    name = recording.path.name if recording.path else "array"
    lines = [f"{name}  {duration(seconds)}" + (f" in {n} stretches with gaps between" if n > 1 else "")]
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


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they matter."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def channel_units(given: tuple[str, ...]) -> dict[str, str]:
    """What `--units CHANNEL=UNIT ...` says.

    Raises:
        ValueError: text of another form.
    """
    pairs = [text.rpartition("=") for text in given]
    wrong = [text for text, (channel, _, unit) in zip(given, pairs, strict=True) if not channel or not unit]
    if wrong:
        raise ValueError(f"--units takes CHANNEL=UNIT, given {wrong[0]!r}")
    return {channel: unit for channel, _, unit in pairs}
