r"""DREAMS sleep spindles as shards: `python -m data_tools.dreams FOLDER SHARDS`.

Eight half-hours of sleep, each of another person, with sleep stages and the spindles that two experts marked (Devuyst,
Zenodo 10.5281/zenodo.2650142; non-commercial licence). FOLDER holds text files, each below a line in brackets:

    excerptN.txt                   [C3-A1]: a sample in microvolts a line, at 50, 100 or 200 Hz (no file says which)
    Hypnogram_excerptN.txt         [Hypnogram]: a stage for every 5 s, after Rechtschaffen and Kales
    Visual_scoringE_excerptN.txt   [visE_Spindles/C3-A1]: onset and duration of expert E's spindles, in seconds

The rate is the one that makes the samples as long as the hypnogram, but for some seconds, which are left out. An
excerpt has one derivation, `C3-A1` or `Cz-A1`; the shards hold C3 and Cz, each recording with one of them marked as
absent, so that one model can learn from all and from any recording that has these electrodes. An excerpt at 50 Hz is
refused, as any such recording is.
Expert 2 marked onsets only, and not in every excerpt; hence `--expert 1` unless told otherwise. To train on the shards
(a common average of one electrode is nothing, and it has no mirror image):

    siamese-jax train SHARDS RUN --tasks spindle sleep --data.ch-names C3 Cz \
        --preprocess.montage referential --training.flip 0
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float, Float64
from tyro.conf import Positional

from siamese_jax.cli.console import run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source, reading_notes
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation, Recording, recording_from_array
from siamese_jax.shards.labels import SLEEP_RULE, EventRule, Rule, TextClasses
from siamese_jax.vocabulary import TaskSpec, standard_name

DEFAULT_DATA = DataConfig(ch_names=("C3", "Cz"))
"""The electrodes of the two derivations; rate and window are those of the preset `small`."""
SPINDLE = TaskSpec("spindle", "binary", ("none", "spindle"))

RATES_HZ = (50, 100, 200)
SCORED_SECONDS = 5
EXCERPT_SECONDS = 1800
"""Documented length of an excerpt; a hypnogram, where there is one, gives the length."""
SPARE_SECONDS = SCORED_SECONDS + 1.0
"""By how much signal and hypnogram may differ in length: a stage that was not written and a second. With another rate
than its own a signal would be twice or half as long."""
CLIPPED_UV = 327.0
"""The amplifier saturates just beyond."""
SAME_SHARE = 0.9
"""Where so many of an expert's spindles last equally long, only their onsets were marked."""
STAGES = {
    **{"5": "Sleep stage W", "4": "Sleep stage R", "3": "Sleep stage 1", "2": "Sleep stage 2", "1": "Sleep stage 3"},
    **{"0": "Sleep stage 4", "-1": "Movement time", "-2": "Sleep stage ?", "-3": "Sleep stage ?"},
}
"""The data set's codes in the EDF+ standard texts for Rechtschaffen and Kales."""

_EXCERPT = re.compile(r"excerpt(\d+)\.txt", re.IGNORECASE)
_BESIDE = ("Hypnogram", "Visual_scoring1", "Visual_scoring2")


class Excerpt(NamedTuple):
    """One half-hour; `notes` say what was repaired, left out or missing."""

    name: str
    ch_name: str
    sfreq: int
    eeg_uv: Float64[np.ndarray, "time"]
    annotations: tuple[Annotation, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Dreams(Source):
    """The excerpts in a folder, each a patient of its own."""

    expert: Literal[1, 2] = 1
    """Whose spindles to learn."""
    test: tuple[int, ...] = ()
    """Numbers of the excerpts to test with; all others train. None: prepare decides."""

    @property
    def title(self) -> str:
        """The data set's name."""
        return "DREAMS sleep spindles"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Spindles of one expert, and sleep stages."""
        return EventRule(SPINDLE, TextClasses(((SPINDLE.name, re.escape(_text(self.expert))),))), SLEEP_RULE

    def names(self) -> Sequence[str]:
        """The excerpts, by number."""
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder")
        found = [path for path in self.root.rglob("*") if _EXCERPT.fullmatch(path.name)]
        if not found:
            raise ValueError(f"{self.root} holds no excerptN.txt of the DREAMS spindle data set")
        absent = set(self.test) - {_number(path) for path in found}
        if absent:
            raise ValueError(f"{self.root} holds no excerpt {', '.join(map(str, sorted(absent)))} to test with")
        return [path.relative_to(self.root).as_posix() for path in sorted(found, key=lambda p: (_number(p), str(p)))]

    def files(self, name: str) -> Sequence[Path]:
        """The excerpt, and its stages and spindles as far as they are there."""
        path = self.root / name
        return [path, *(p for kind in _BESIDE if (p := path.with_name(f"{kind}_{path.name}")).exists())]

    def open(self, name: str, data: DataConfig) -> Opened:
        """An excerpt in memory: it is small."""
        excerpt = self.read(name)
        recording = recording_from_array(
            excerpt.eeg_uv[:, None],
            sfreq=excerpt.sfreq,
            ch_names=(excerpt.ch_name,),
            target_ch_names=data.ch_names,
            target_sfreq=data.sfreq,
        )
        return self.opened(name, excerpt, recording)

    def read(self, name: str) -> Excerpt:
        """An excerpt's samples as they are, its stages, and the spindles of the expert."""
        return read_excerpt(self.root / name, experts=(self.expert,))

    def opened(self, name: str, excerpt: Excerpt, recording: Recording) -> Opened:
        """A recording made of an excerpt, with what is known of it."""
        path = self.root / name
        searched = {SPINDLE.name: path.with_name(f"Visual_scoring{self.expert}_{path.name}").exists()}
        split = ("test" if _number(path) in self.test else "train") if self.test else None
        notes = (*excerpt.notes, *reading_notes(recording))
        patient = f"DREAMS-{_number(path)}"
        return Opened(recording, excerpt.annotations, patient, "excerpt", split, searched, notes)

    def notes(self) -> Sequence[str]:
        """Files of the folder that are of no excerpt."""
        used = {path for name in self.names() for path in self.files(name)}
        held = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith("._"))  # of macOS
        others = sorted(path.name for path in held if path not in used)
        return [f"not used: {', '.join(others)}"] if others else []


def read_excerpt(path: Path, *, experts: Sequence[int] = (1, 2)) -> Excerpt:
    """An excerpt and what lies beside it: its stages, and the spindles of these experts.

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
    if unscored := len(signal) / sfreq - seconds:
        notes.append(f"the last {unscored:.3g} s of signal left out: they fill no second that is scored")
    if spare < 0:
        notes.append(f"the signal ends {-spare / sfreq:.3g} s before {scored_seconds} s: later stages are left out")
    signal = signal[: seconds * sfreq]
    notes += [f"clipped at +-{CLIPPED_UV + 1:g} uV in places"] if (np.abs(signal) > CLIPPED_UV).any() else []
    spindles, said = _spindles(path, experts)
    inside = [a._replace(duration_seconds=min(a.duration_seconds, seconds - a.onset_seconds)) for a in stages]
    marks = [a for a in (*inside, *spindles) if a.onset_seconds < seconds]
    marks.sort(key=lambda mark: mark.onset_seconds)
    return Excerpt(path.stem, ch_name, sfreq, signal, tuple(marks), tuple([*notes, *said]))


def main(
    folder: Positional[Path],
    shards: Positional[Path],
    options: Options = ShardOptions(),  # noqa: B008
    *,
    expert: Literal[1, 2] = 1,
    test: tuple[int, ...] = (),
) -> int:
    """Makes shards of the DREAMS sleep spindle data set: tasks `spindle` and `sleep`.

    Args:
        folder: The data set's text files.
        shards: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
        expert: Whose spindles to learn; expert 2 marked onsets only.
        test: Numbers of the excerpts to test with, while all others train; default split by the seed.
    """
    return make_shards(Dreams(folder, expert, test), shards, DEFAULT_DATA, options)


# --- the text files --------------------------------------------------------------------------------------------


def _number(path: Path) -> int:
    return int(path.stem[len("excerpt") :])


def _text(expert: int) -> str:
    return f"Spindle (expert {expert})"


def _table(path: Path, n_columns: int, *, least_rows: int = 1) -> tuple[str, Float[np.ndarray, "row column"]]:
    """What stands in brackets in the first line, and the numbers below it."""
    first, _, rest = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")
    header = re.fullmatch(r"\[(.+)\]", first.strip())
    if header is None:
        raise ValueError(f"{path.name}: its first line must be a name in brackets, is {first[:40]!r}")
    words = rest.split()
    try:
        numbers = np.array(words, np.float64).reshape(-1, n_columns)
    except ValueError as error:
        raise ValueError(f"{path.name} must hold {n_columns} number(s) a line: {error}") from None
    if len(numbers) < least_rows or not np.isfinite(numbers).all():
        raise ValueError(f"{path.name} must hold numbers, all of them finite")
    return header[1], numbers


def _stages(path: Path) -> tuple[list[Annotation], int, list[str]]:
    """Stages as annotations, one for each stretch; the seconds that are scored; notes."""
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


def _spindles(path: Path, experts: Sequence[int]) -> tuple[list[Annotation], list[str]]:
    marks, notes = [], []
    for expert in experts:
        scoring = path.with_name(f"Visual_scoring{expert}_{path.name}")
        if not scoring.exists():
            notes.append(f"no spindles of expert {expert}")
            continue
        onsets, durations = _table(scoring, 2, least_rows=0)[1].T  # perhaps none was found
        usual, n_usual = next(iter(Counter(durations.tolist()).most_common(1)), (0.0, 0))
        if len(durations) > 1 and n_usual >= SAME_SHARE * len(durations):
            notes.append(f"spindles of expert {expert} last {usual:g} s each, which nobody measured: onsets only")
            durations = np.zeros_like(durations)
        marks += [Annotation(float(a), float(b), _text(expert), None) for a, b in zip(onsets, durations, strict=True)]
    return marks, notes


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
