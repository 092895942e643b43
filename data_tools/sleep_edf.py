r"""Sleep-EDF Expanded as shards: `python -m data_tools.sleep_edf ROOT SHARDS`.

197 nights with sleep stages (PhysioNet `sleep-edfx` 1.0.0, doi 10.13026/C2X676, ODC-By; Kemp et al. 2000). ROOT, or any
folder in it, holds pairs of EDF files whose names differ in one letter more than their endings, that of the scorer:

    sleep-cassette/SC4ssNE0-PSG.edf    sleep-cassette/SC4ssNEC-Hypnogram.edf     subject ss, night N: about 20 h at home
    sleep-telemetry/ST7ssNJ0-PSG.edf   sleep-telemetry/ST7ssNJP-Hypnogram.edf    subject ss, night N: about 9 h

Both nights of a subject are in one split. A PSG has `EEG Fpz-Cz`, `EEG Pz-Oz` and `EOG horizontal` at 100 Hz (taken by
`--channels FPz-Cz Pz-Oz EOGH`); the chin's EMG has 1 Hz in SC, and is no channel for a network. A hypnogram is EDF+ of
annotations alone, stages after Rechtschaffen and Kales: 3 and 4 become N3; `Movement time` and `Sleep stage ?` are no
stage, and windows of them have no label.

SC has the whole day, most of it awake. As in the papers (Supratak et al. 2017, DeepSleepNet), windows further
than 30 minutes from sleep are left out; `--wake-minutes inf` keeps all. To train on the shards:

    siamese-jax train SHARDS RUN --tasks sleep --data.ch-names FPz-Cz Pz-Oz --data.sfreq 100 \
        --data.window-seconds 30 --preprocess.montage referential --preprocess.eeg-band-hz 0.5 40 \
        --converter.band-hz 0 40 --training.flip 0
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tyro.conf import Positional

from siamese_jax.cli.console import run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source, reading_notes
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.edf import read_annotations, read_recording
from siamese_jax.recordings.edf_records import read_layout, start_datetime
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.windows import WindowGrid, window_grid, window_onsets
from siamese_jax.shards.labels import SLEEP_RULE, UNKNOWN, Rule, sleep_class

DEFAULT_DATA = DataConfig(ch_names=("FPz-Cz", "Pz-Oz"), sfreq=100.0, window_seconds=30.0)
"""The files' own rate, and an epoch of scoring a window."""
WAKE_MINUTES = 30.0

_PSG = re.compile(r"((SC4|ST7)(\d\d)\d[A-Z])\d-PSG\.edf", re.IGNORECASE)
_HYPNOGRAM = re.compile(r"((?:SC4|ST7)\d\d\d[A-Z])[A-Z\d]-Hypnogram\.edf", re.IGNORECASE)
_WAKE = "W"


@dataclass(frozen=True)
class SleepEdf(Source):
    """The pairs of PSG and hypnogram in a folder."""

    wake_minutes: float = WAKE_MINUTES
    """How far from sleep a window may lie."""

    def __post_init__(self) -> None:
        if not self.wake_minutes >= 0:
            raise ValueError(f"wake_minutes must be 0 or more, given {self.wake_minutes}")

    @property
    def title(self) -> str:
        """The data set's name."""
        return "Sleep-EDF Expanded 1.0.0"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Sleep stages."""
        return (SLEEP_RULE,)

    def names(self) -> Sequence[str]:
        """The PSGs."""
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder")
        found = sorted(path for path in self.root.rglob("*") if _PSG.fullmatch(path.name))
        if not found:
            raise ValueError(f"{self.root} holds no SC4ssNEx-PSG.edf or ST7ssNJx-PSG.edf of Sleep-EDF Expanded")
        return [path.relative_to(self.root).as_posix() for path in found]

    def files(self, name: str) -> Sequence[Path]:
        """The PSG, and its hypnogram if there is one."""
        path = self.root / name
        return [path, *_hypnograms(path)[:1]]

    def open(self, name: str, data: DataConfig) -> Opened:
        """A night."""
        path = self.root / name
        hypnograms = _hypnograms(path)
        if not hypnograms:
            raise ValueError(f"no hypnogram beside it ({_night(path)}?-Hypnogram.edf)")
        recording = read_recording(path, ch_names=data.ch_names, sfreq=data.sfreq)
        stages, notes = _stages(path, hypnograms[0])
        end = max(segment.onset_seconds + segment.n_times / recording.sfreq for segment in recording.segments)
        if not any(-stage.duration_seconds < stage.onset_seconds < end for stage in stages):
            raise ValueError(f"{hypnograms[0].name} is of another time: by the headers' clocks they do not overlap")
        if not any(_is_sleep(stage) for stage in stages):
            notes.append("no sleep in the hypnogram: all windows are kept")
        elif np.isfinite(self.wake_minutes):
            notes.append(f"windows further than {self.wake_minutes:g} min from sleep are left out")
        if len(hypnograms) > 1:
            notes.append("more than one hypnogram: the first by name is used")
        # both studies count subjects from 00 or 01, of other people
        patient = _night(path)[:5]
        return Opened(recording, stages, patient, "file name", notes=(*notes, *reading_notes(recording)))

    def grid(self, opened: Opened, *, window: int, hop: int) -> WindowGrid:
        """Windows that lie within `wake_minutes` of sleep."""
        segments, sfreq = opened.recording.segments, opened.recording.sfreq
        grid = window_grid(segments, window=window, hop=hop)
        asleep = [stage for stage in opened.annotations if _is_sleep(stage)]
        if not asleep:
            return grid
        spare = 60 * self.wake_minutes + 1e-6  # onsets are sums of rounded decimals
        first = min(stage.onset_seconds for stage in asleep) - spare
        last = max(stage.onset_seconds + stage.duration_seconds for stage in asleep) + spare
        onsets = window_onsets(segments, grid, sfreq=sfreq)
        near = (onsets >= first) & (onsets + window / sfreq <= last)
        return WindowGrid(grid.segment[near], grid.start[near])

    def notes(self) -> Sequence[str]:
        """Hypnograms without their PSG, and files of the older data set."""
        used = {path for name in self.names() for path in _hypnograms(self.root / name)}
        alone = [p for p in sorted(self.root.rglob("*")) if _HYPNOGRAM.fullmatch(p.name) and p not in used]
        said = [f"no PSG beside {', '.join(path.name for path in alone)}: not used"] if alone else []
        held = (path for path in self.root.rglob("*") if not path.name.startswith("."))  # macOS leaves `._` files
        old = sorted(path.name for path in held if path.suffix.lower() in (".rec", ".hyp"))
        if old:
            said.append(f"not read, as the expanded data set has the same eight nights: {', '.join(old)}")
        return said

    def options(self) -> dict[str, object]:
        """How much wake decides the windows."""
        return {"wake_minutes": str(self.wake_minutes)}


def main(
    root: Positional[Path],
    shards: Positional[Path],
    options: Options = ShardOptions(),  # noqa: B008
    *,
    wake_minutes: float = WAKE_MINUTES,
) -> int:
    """Makes shards of Sleep-EDF Expanded: task `sleep`.

    Args:
        root: The data set's folder, or one with some of its files.
        shards: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
        wake_minutes: Windows further than this from the first or the last sleep are left out; inf keeps all.
    """
    return make_shards(SleepEdf(root, wake_minutes), shards, DEFAULT_DATA, options)


def _night(psg: Path) -> str:
    """What a PSG's name shares with its hypnogram's: study, subject, night, and the letter of the study's files."""
    return psg.name[:7].upper()


def _hypnograms(psg: Path) -> list[Path]:
    """Those of a PSG's night, by name."""
    found = ((path, _HYPNOGRAM.fullmatch(path.name)) for path in sorted(psg.parent.iterdir()))
    return [path for path, match in found if match and match[1].upper() == _night(psg)]


def _stages(psg: Path, hypnogram: Path) -> tuple[tuple[Annotation, ...], list[str]]:
    """The hypnogram in seconds from the PSG's start."""
    stages = tuple(a for a in read_annotations(hypnogram) if sleep_class(a.text) is not None)
    if not stages:
        raise ValueError(f"{hypnogram.name} holds no sleep stages")
    begin, scored_from = (start_datetime(read_layout(path)) for path in (psg, hypnogram))
    late = (scored_from - begin).total_seconds() if begin and scored_from else 0.0
    moved = tuple(stage._replace(onset_seconds=stage.onset_seconds + late) for stage in stages)
    return moved, [f"its hypnogram begins {late:+g} s from it: moved"] if late else []


def _is_sleep(stage: Annotation) -> bool:
    return sleep_class(stage.text) not in (None, UNKNOWN, _WAKE)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
