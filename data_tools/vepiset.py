"""vEpiSet as shards: `python -m data_tools.vepiset ROOT OUT`.

84 patients of Peking Union Medical College Hospital, one recording of about 20 min each, IEDs and wake or sleep marked
by three experts or more (Lin et al., Sci Data 2025;12:229; figshare 10.6084/m9.figshare.28069568, 17 GB; CC BY 4.0 by a
third party's account, see its page). ROOT holds `opensource-dataset`, or what you have of it, in whatever folders:

    MAT_Files/<id>.mat      `eeg_data`, 29 leads x samples at 500 Hz in volts; `events`, rows of onset, duration, text:
                            `!` a discharge, `!start` to `!end` a run of them, `Waking`, `Sleeping` until the next
    MAT_Files/base_info.csv file_name, sex, age; compared with what is there, otherwise not used
    <Region>-IED/, Non-IED/ epochs of 4 s: <id>_<first sample>_<end>_500__<label>.npy, 29 x 2000, label 0 to 5

Labels. What others publish on vEpiSet counts its 25,449 epochs, and their labels were corrected by hand after the
marks. So a window that is such an epoch (the default: 4 s, end to end) has the published label of `ied` and `region`,
weight 1 wherever in it the mark lies; no other label can be compared with theirs. Every other window, and every window
of a recording without published epochs, is labelled by the marks, as any recording is: positive if a discharge peaks at
least 0.1 s inside, weight 0 if it is only touched; `region` is unknown where there is a mark, since marks name none.
`state` is always by the marks. The marks stay in the shards as events, so that detection is scored against them.
Without MAT files, recordings are put together again from their epochs, with gaps where one is missing; then no state is
known, and windows must be the epochs.

Traps, by the file-level audit of eng-rodriguez/dissertation-research (FACT) unless said otherwise:

    filtered already   notch at 50 Hz, low-pass near 70 Hz: nothing is filtered here; train with
                       `--preprocess.mains-hz None`
    reference          undocumented, close to (C3+C4)/2: use an average reference, as the preset `small` does
    lead names         not stored: the order of the group's own converter (INFERENCE; vepiset_dataset, mat2npy.py)
    short last epochs  65, left out and counted: padding would invent signal
    marks and labels   12 IED epochs hold no mark, 50 others hold one: counted, the published label stands
    confounding        IED recordings are asleep 64 % of the time, others 36 %; five hold 42 % of the IED epochs:
                       printed at the end, for the recordings that are there

To train: `siamese-jax train SHARDS RUN --tasks ied --model.fusion none --preprocess.mains-hz None`.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tyro.conf import Positional

from data_tools.vepiset_files import (
    EPOCH_SAMPLES,
    EPOCH_SECONDS,
    LABELS,
    SFREQ_HZ,
    Found,
    find_recordings,
    info_ids,
    mat_length,
    read_marks,
    read_signal,
    rebuilt,
)
from siamese_jax.cli.console import run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source, reading_notes
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation, recording_from_array
from siamese_jax.recordings.windows import WindowGrid
from siamese_jax.shards.labels import RUN_SECONDS, STATE_RULE, UNKNOWN, EventRule, Rule, TextClasses
from siamese_jax.shards.marks import Mark, events_of
from siamese_jax.vocabulary import IED, LEADS_29, TaskSpec

DEFAULT_DATA = DataConfig()
REGION = TaskSpec("region", "multiclass", LABELS)
CORRECTIONS: dict[str, dict[int, str]] = {
    "DA00102R": {276000: "none", 352000: "none"},
    "DA00100V": {384000: "none"},
    "DA00103E": {430000: "none"},
    "DA00103Q": {316000: "ied"},
    "DA001031": {110000: "none"},
}
"""The group's own corrections, by recording and first sample (FACT: vepiset_dataset, mat2npy.py, `fix_label`). They are
in the published labels; where an epoch's is missing, they replace it."""
ODD_REFERENCE = ("DA00100Y", "DA00103U")
"""Whose reference is not near (C3+C4)/2 (FACT: the audit)."""

_EPOCH = "epoch "  # begins the text of an annotation that is a published label
_IED_EPOCH = "ied epoch "  # the same of an epoch that stands for its marks: a discharge is somewhere in it
_MARK = r"!(?!g).*"
_IED_TEXTS = TextClasses((("ied", f"(ied )?{_EPOCH}(ied|{'|'.join(LABELS[1:])})"), ("ied", _MARK)))
_REGION_TEXTS = TextClasses(
    (*((name, f"(ied )?{_EPOCH}{name}") for name in LABELS), (UNKNOWN, f"(ied )?{_EPOCH}ied"), (UNKNOWN, _MARK))
)


@dataclass(frozen=True)
class EpochRule(EventRule):
    """A window that is a published epoch has its label; any other is labelled by the marks."""

    def marks(self, annotations: Sequence[Annotation]) -> tuple[Mark, ...]:
        """Discharges and runs; and published labels, of the first class if they name none of the others."""
        published = [a for a in annotations if a.text.startswith(_EPOCH)]
        found = super().marks([a for a in annotations if not a.text.startswith(_EPOCH)])
        for onset, duration, text, *_ in published:
            name = self.class_of(text)
            code = -1 if name == UNKNOWN else self.task.classes.index(name or self.task.classes[0])
            found += (Mark(onset, duration, math.nan, code, (), "window"),)
        return tuple(sorted(found, key=lambda mark: mark.onset_seconds))


IED_RULE = EpochRule(IED, _IED_TEXTS, run_seconds=RUN_SECONDS)
REGION_RULE = EpochRule(REGION, _REGION_TEXTS, run_seconds=RUN_SECONDS)


@dataclass(frozen=True)
class Vepiset(Source):
    """The data set's folder, or a part of it: MAT files, epochs, or both."""

    @property
    def title(self) -> str:
        """The data set."""
        return "vEpiSet (Lin et al., Sci Data 2025)"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """IEDs, wake or sleep, and where on the scalp the IEDs are."""
        return IED_RULE, STATE_RULE, REGION_RULE

    @property
    def found(self) -> dict[str, Found]:
        """What there is of each recording, by its id; looked for once."""
        # No `cached_property`: Python 3.11's holds a lock, so that no class of `__main__` with one goes to a worker.
        if "_found" not in self.__dict__:
            object.__setattr__(self, "_found", find_recordings(self.root))
        return self.__dict__["_found"]

    def names(self) -> Sequence[str]:
        """The recordings' ids."""
        return sorted(self.found)

    def files(self, name: str) -> Sequence[Path]:
        """The MAT file, or all epochs; that epochs' names say the labels is seen to by `options`."""
        mat, epochs, _ = self.found[name]
        return [mat] if mat else [Path(epoch.path) for epoch in epochs]

    def options(self) -> dict[str, object]:
        """The published labels are in the names of files."""
        names = sorted(Path(epoch.path).name for held in self.found.values() for epoch in held.epochs)
        return {"epochs": hashlib.sha256("\n".join(names).encode()).hexdigest()}

    def open(self, name: str, data: DataConfig) -> Opened:
        """A recording, from its MAT file if that is there."""
        mat, epochs, trouble = self.found[name]
        if trouble:
            raise ValueError(trouble)
        if mat:
            signal = read_signal(mat)
            marks, notes = read_marks(mat, len(signal) / SFREQ_HZ)
            target = {"target_ch_names": data.ch_names, "target_sfreq": data.sfreq}
            recording = recording_from_array(signal, sfreq=SFREQ_HZ, ch_names=LEADS_29, **target)
            length = len(signal)
        else:
            recording, notes = rebuilt(epochs, data)
            marks, length = (), epochs[-1].stop
            notes = ("no MAT file: put together from its epochs, state unknown", *notes)
        if length % EPOCH_SAMPLES and data.window_seconds == EPOCH_SECONDS:
            notes = (*notes, "its last epoch is shorter than 4 s: left out")
        labels = _published(name, self.found[name])
        searched = {IED.name: True, REGION.name: bool(epochs)}
        annotations = (*marks, *labels)
        return Opened(recording, annotations, name, "file name", None, searched, (*notes, *reading_notes(recording)))

    def grid(self, opened: Opened, *, window: int, hop: int) -> WindowGrid:
        """Windows end to end or as told; of a recording without marks, the epochs and nothing else."""
        epoch = round(EPOCH_SECONDS * opened.recording.sfreq)
        if self.found[opened.patient].mat is None and (window != epoch or hop != epoch):
            raise ValueError("without its MAT file only its epochs are labelled: leave --window and --hop at 4 s")
        return super().grid(opened, window=window, hop=hop)

    def notes(self) -> Sequence[str]:
        """What was done to the signals before, and what the labels are tangled up with."""
        tallies = [tally for name in self.names() if (tally := _tally(name, self.found[name])) is not None]
        lines = [
            "its signals are notched at 50 Hz and low-passed near 70 Hz already: train with --preprocess.mains-hz None",
            "its reference is undocumented and close to (C3+C4)/2 (but not in"
            f" {' and '.join(ODD_REFERENCE)}): use an average reference, as the preset small does",
        ]
        absent = sorted(info_ids(self.root) - set(self.found))
        if absent:
            named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
            lines.append(f"named in base_info.csv, but not here ({len(absent)}): {named}")
        return lines + _disagreements(tallies) + _confounding(tallies)


def main(root: Positional[Path], out: Positional[Path], options: Options = ShardOptions()) -> int:  # noqa: B008
    """Makes shards of vEpiSet: IEDs and their region by its published 4-s epochs, wake or sleep by its marks.

    Args:
        root: Its folder, opensource-dataset, or what holds it; MAT files alone or epochs alone will do.
        out: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
    """
    return make_shards(Vepiset(root), out, DEFAULT_DATA, options)


# --- labels ----------------------------------------------------------------------------------------------------


def _published(name: str, found: Found) -> tuple[Annotation, ...]:
    """The published labels as annotations, and the group's corrections of epochs that are missing."""
    corrected = {start: (start + EPOCH_SAMPLES, label) for start, label in CORRECTIONS.get(name, {}).items()}
    labels = corrected | {epoch.start: (epoch.stop, epoch.label) for epoch in found.epochs}
    begins = _IED_EPOCH if found.mat is None else _EPOCH  # without marks, a discharge is somewhere in its epoch
    return tuple(
        Annotation(start / SFREQ_HZ, (stop - start) / SFREQ_HZ, f"{_EPOCH if label == LABELS[0] else begins}{label}")
        for start, (stop, label) in sorted(labels.items())
    )


@dataclass(frozen=True)
class _Tally:
    """One recording's whole epochs, counted."""

    ied: int
    awake: int
    asleep: int
    ied_without_mark: int
    mark_without_ied: int
    short_ied: int


def _tally(name: str, found: Found) -> _Tally | None:
    """The counts of a recording; None if its files cannot be read, which is why it was skipped."""
    try:
        length = mat_length(found.mat) if found.mat else max(epoch.stop for epoch in found.epochs)
        marks = read_marks(found.mat, length / SFREQ_HZ)[0] if found.mat else ()
    except (ValueError, OSError):
        return None
    onsets = np.arange(length // EPOCH_SAMPLES) * EPOCH_SECONDS
    published = _published(name, found)
    held = IED_RULE.marks(marks)
    ied = IED_RULE.label((*marks, *published), onsets, window_seconds=EPOCH_SECONDS)
    state = STATE_RULE.label(marks, onsets, window_seconds=EPOCH_SECONDS)
    ends = [(e.onset_seconds, e.stop_seconds) if e.kind == "run" else (e.place_seconds,) * 2 for e in events_of(held)]
    first, last = np.array(ends, np.float64).reshape(-1, 2).T
    within = (first < onsets[:, None] + EPOCH_SECONDS) & (last >= onsets[:, None])
    marked = within.any(axis=1)
    known = np.isin(onsets, [epoch.start / SFREQ_HZ for epoch in found.epochs]) & (found.mat is not None)
    positive = (ied.label > 0) & (ied.weight > 0)
    return _Tally(
        ied=int(positive.sum()),
        awake=int(((state.label == 0) & (state.weight > 0)).sum()),
        asleep=int(((state.label == 1) & (state.weight > 0)).sum()),
        ied_without_mark=int((known & positive & ~marked).sum()),
        mark_without_ied=int((known & ~positive & marked).sum()),
        short_ied=sum(e.label != LABELS[0] and e.stop - e.start < EPOCH_SAMPLES for e in found.epochs),
    )


def _disagreements(tallies: Sequence[_Tally]) -> list[str]:
    lines = []
    without, extra = sum(t.ied_without_mark for t in tallies), sum(t.mark_without_ied for t in tallies)
    if without or extra:
        lines.append(f"{without} IED epochs hold no mark and {extra} others hold one: the published label stands")
    short = sum(t.short_ied for t in tallies)
    if short:
        lines.append(f"{short} of the epochs shorter than 4 s that are left out are IED epochs")
    return lines


def _confounding(tallies: Sequence[_Tally]) -> list[str]:
    """How IEDs and sleep go together, and how few patients hold most IEDs."""
    having, free = [t for t in tallies if t.ied], [t for t in tallies if not t.ied]
    counts = sorted((t.ied for t in having), reverse=True)
    if not having:
        return ["no recording has an IED"]
    lines = [
        f"IEDs in {len(having)} of {len(tallies)} recordings; the {len(counts[:5])} with most hold"
        f" {sum(counts[:5]) / sum(counts):.0%} of the IED epochs"
    ]
    if any(t.awake + t.asleep for t in having) and any(t.awake + t.asleep for t in free):
        shares = [sum(t.asleep for t in g) / max(sum(t.awake + t.asleep for t in g), 1) for g in (having, free)]
        lines.append(
            f"asleep {shares[0]:.0%} of the scored time in recordings with IEDs, {shares[1]:.0%} in those without: as"
            " far as these differ, state alone indicates the disease, so report scores by state and within patients"
        )
    return lines


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
