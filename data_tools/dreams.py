"""DREAMS sleep spindles as EDF+: `python -m data_tools.dreams FOLDER OUT`.

Eight half-hours of sleep, one EEG derivation each, with sleep stages and the spindles that two experts marked (Devuyst,
Zenodo 10.5281/zenodo.2650142; non-commercial licence). FOLDER holds text files, each below a line in brackets:

    excerptN.txt                   [C3-A1]: a sample in microvolts a line, at 50, 100 or 200 Hz (no file says which)
    Hypnogram_excerptN.txt         [Hypnogram]: a stage for every 5 s, after Rechtschaffen and Kales
    Visual_scoringE_excerptN.txt   [visE_Spindles/C3-A1]: onset and duration of expert E's spindles, in seconds

OUT gets an EDF+ for each excerpt, its stages and spindles as annotations, ready for `siamese-jax prepare`. What is
repaired or left out is said.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float, Float64

from siamese_jax.recordings.edf import Annotation
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import standard_name

RATES_HZ = (50, 100, 200)
SCORED_SECONDS = 5
EXCERPT_SECONDS = 1800
"""How long an excerpt is said to be; a hypnogram, where there is one, says it itself."""
SPARE_SECONDS = 1.0
"""By how much signal and hypnogram may differ in length."""
CLIPPED_UV = 327.0
"""The amplifier saturates just beyond."""
SAME_SHARE = 0.9
"""Where so many of an expert's spindles last equally long, only their onsets were marked."""
STAGES = {
    **{"5": "Sleep stage W", "4": "Sleep stage R", "3": "Sleep stage 1", "2": "Sleep stage 2", "1": "Sleep stage 3"},
    **{"0": "Sleep stage 4", "-1": "Movement time", "-2": "Sleep stage ?", "-3": "Sleep stage ?"},
}
"""The data set's codes in the EDF+ standard texts for Rechtschaffen and Kales."""


class Excerpt(NamedTuple):
    """One half-hour; `notes` say what was repaired, left out or missing."""

    name: str
    ch_name: str
    sfreq: int
    eeg_uv: Float64[np.ndarray, "time"]
    annotations: tuple[Annotation, ...]
    notes: tuple[str, ...]


def read_excerpt(path: Path) -> Excerpt:
    """An excerpt and what lies beside it.

    Raises:
        ValueError: a file without its line in brackets or with something else than numbers, an unknown channel or
            stage, or a length that fits none of the rates.
    """
    header, columns = _table(path, 1)
    ch_name, signal = standard_name(header), columns[:, 0]
    if ch_name is None:
        raise ValueError(f"{path.name}: its first line names no known derivation: [{header}]")
    stages, scored_seconds, notes = _stages(path.with_name(f"Hypnogram_{path.name}"))
    sfreq = min(RATES_HZ, key=lambda rate: abs(len(signal) / rate - scored_seconds))
    spare = len(signal) - sfreq * scored_seconds
    if abs(spare) > SPARE_SECONDS * sfreq:
        rates = ", ".join(map(str, RATES_HZ))
        raise ValueError(f"{path.name}: {len(signal)} samples are not {scored_seconds} s at any of {rates} Hz")
    seconds = min(len(signal) // sfreq, scored_seconds)
    if len(signal) != seconds * sfreq:
        notes.append(f"the last {len(signal) - seconds * sfreq} samples left out: they fill no second that is scored")
    signal = signal[: seconds * sfreq]
    n_clipped = int((np.abs(signal) > CLIPPED_UV).sum())
    notes += [f"{n_clipped} samples clipped at +-{CLIPPED_UV + 1:g} uV"] if n_clipped else []
    spindles, said = _spindles(path)
    inside = [a._replace(duration_seconds=min(a.duration_seconds, seconds - a.onset_seconds)) for a in stages]
    marks = [a for a in (*inside, *spindles) if a.onset_seconds < seconds]
    marks.sort(key=lambda mark: mark.onset_seconds)
    return Excerpt(path.stem, ch_name, sfreq, signal, tuple(marks), tuple([*notes, *said]))


def convert(folder: Path, out: Path) -> Iterator[str]:
    """Write an EDF+ to `out` for each excerpt in `folder`; a line on each, then on what was not used.

    Raises:
        ValueError: no excerpt in `folder`.
    """
    paths = sorted(folder.glob("excerpt*.txt"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise ValueError(f"{folder} holds no excerptN.txt of the DREAMS spindle data set")
    out.mkdir(parents=True, exist_ok=True)
    used = {path.name for path in paths} | {f"{kind}_{path.name}" for path in paths for kind in _BESIDE}
    for path in paths:
        try:
            excerpt = read_excerpt(path)
        except ValueError as error:
            yield f"skipped   {error}"
            continue
        write_recording(
            out / f"{excerpt.name}.edf",
            excerpt.eeg_uv[:, None],
            sfreq=float(excerpt.sfreq),
            ch_names=(excerpt.ch_name,),
            annotations=excerpt.annotations,
            patient_code=f"DREAMS-{excerpt.name}",
        )
        yield _said(excerpt)
    others = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in used)
    if others:
        yield f"not used  {', '.join(others)}"


def main(folder: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Make EDF+ files of the DREAMS sleep spindle data set.

    Args:
        folder: The data set's text files.
        out: Folder for excerpt1.edf and so on.
    """
    try:
        for line in convert(folder, out):
            print(line)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


# --- the text files --------------------------------------------------------------------------------------------

_BESIDE = ("Hypnogram", "Visual_scoring1", "Visual_scoring2")


def _table(path: Path, n_columns: int) -> tuple[str, Float[np.ndarray, "row column"]]:
    """What stands in brackets in the first line, and the numbers below it."""
    first, _, rest = path.read_text(encoding="latin-1").partition("\n")
    header = re.fullmatch(r"\[(.+)\]", first.strip())
    if header is None:
        raise ValueError(f"{path.name}: its first line must be a name in brackets, is {first[:40]!r}")
    words = rest.split()
    try:
        numbers = np.array(words, np.float64).reshape(-1, n_columns)
    except ValueError as error:
        raise ValueError(f"{path.name} must hold {n_columns} number(s) a line: {error}") from None
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"{path.name} must hold numbers, all of them finite")
    return header[1], numbers


def _stages(path: Path) -> tuple[list[Annotation], int, list[str]]:
    """Stages as annotations, one for each stretch; the seconds that are scored; what is to be said."""
    if not path.exists():
        return [], EXCERPT_SECONDS, ["no hypnogram: no stages"]
    codes = [f"{code:g}" for code in _table(path, 1)[1][:, 0]]
    unknown = sorted(set(codes) - set(STAGES))
    if unknown:
        raise ValueError(f"{path.name} has unknown stages {', '.join(unknown)}; known are {', '.join(STAGES)}")
    marks, onset = [], 0
    for text, stretch in groupby(STAGES[code] for code in codes):
        seconds = SCORED_SECONDS * len(list(stretch))
        marks.append(Annotation(float(onset), float(seconds), text, None))
        onset += seconds
    return marks, onset, []


def _spindles(path: Path) -> tuple[list[Annotation], list[str]]:
    marks, notes = [], []
    for expert in (1, 2):
        scoring = path.with_name(f"Visual_scoring{expert}_{path.name}")
        if not scoring.exists():
            notes.append(f"no spindles of expert {expert}")
            continue
        onsets, durations = _table(scoring, 2)[1].T
        usual, n_usual = Counter(durations.tolist()).most_common(1)[0]
        if len(durations) > 1 and n_usual >= SAME_SHARE * len(durations):
            notes.append(f"{n_usual} spindles of expert {expert} last {usual:g} s, which nobody measured: onsets only")
            durations = np.zeros_like(durations)
        text = f"Spindle (expert {expert})"
        marks += [Annotation(float(a), float(b), text, None) for a, b in zip(onsets, durations, strict=True)]
    return marks, notes


def _said(excerpt: Excerpt) -> str:
    texts = [mark.text for mark in excerpt.annotations]
    counts = [f"{text} {texts.count(text)}" for text in sorted({t for t in texts if t.startswith("Spindle")})]
    minutes = len(excerpt.eeg_uv) / excerpt.sfreq / 60
    held = [f"{excerpt.ch_name} at {excerpt.sfreq} Hz", f"{minutes:.4g} min", *counts, *excerpt.notes]
    return f"{excerpt.name}  {'; '.join(held)}"


if __name__ == "__main__":
    tyro.cli(main)
