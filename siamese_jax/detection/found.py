"""What `siamese_jax.detect` gives: tables of what was found, annotations for MNE, and the files of the command."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamese_jax.detection.detect import EPOCH_SECONDS, Detections
from siamese_jax.detection.results import (
    EPOCH_COLUMNS,
    EVENT_COLUMNS,
    MACHINE,
    Written,
    annotations_of,
    event_label,
    write_detections,
)
from siamese_jax.recordings.recording import Recording

if TYPE_CHECKING:
    import mne
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Found:
    """Events and sleep stages of one recording. Times are seconds from its first sample, gaps included."""

    recording: Recording = field(repr=False)
    detections: Detections = field(repr=False)
    """The same as plain tuples, with the threshold, its origin, and the electrodes that were bad."""
    provenance: Mapping[str, Any] = field(repr=False)
    """The model in words, and the settings: for the run record."""
    learnt_from: Collection[str] = field(default=(), repr=False)
    source: Mapping[str, int] | None = field(default=None, repr=False)
    """`signature` of the recording's file before it was read."""

    @cached_property
    def events(self) -> "pd.DataFrame":
        """A row for each event, in order of time, with the columns of the file `*_events.csv`."""
        label = event_label(self.detections)
        rows = [
            (e.onset_seconds, e.duration_seconds, label, MACHINE, e.peak_seconds, e.probability)
            + (e.channel, e.amplitude_uv, e.stage)
            for e in self.detections.events
        ]
        return _table(rows, EVENT_COLUMNS)

    @cached_property
    def hypnogram(self) -> "pd.DataFrame":
        """A row for each 30-s epoch, with the columns of `*_hypnogram.csv`; empty if the model knows no stages."""
        rows = [
            (e.onset_seconds, EPOCH_SECONDS, f"Sleep stage {e.stage}", MACHINE, e.stage, e.probability)
            for e in self.detections.hypnogram
        ]
        return _table(rows, EPOCH_COLUMNS)

    def counts(self) -> "pd.DataFrame":
        """Events, minutes analysed and events per hour by sleep stage; the last row is `all`."""
        rows = [(*row, row.per_hour) for row in self.detections.counts()]
        return _table(rows, ("stage", "events", "minutes", "per_hour"))

    def to_mne(self) -> "mne.Annotations":
        """Events and stages as annotations, for `raw.set_annotations`; their origin is the first sample.

        Raises:
            ImportError: MNE is not installed.
        """
        import mne

        marks = annotations_of(self.detections)
        return mne.Annotations(
            onset=[mark.onset_seconds for mark in marks],
            duration=[mark.duration_seconds for mark in marks],
            description=[mark.text for mark in marks],
            ch_names=[() if mark.channel is None else (mark.channel,) for mark in marks],
        )

    def save(self, folder: str | Path, *, copy: bool = False) -> Written:
        """Write the files that `siamese-jax detect` writes but for the review page; names begin with the recording's.

        Args:
            folder: created if it is not there; earlier results of the same name are replaced.
            copy: also write a copy of the EDF file with the annotations in it.

        Raises:
            ValueError: results that somebody changed are there.
            OSError: the folder cannot be written.
        """
        return write_detections(
            Path(folder),
            self.recording,
            self.detections,
            provenance=self.provenance,
            source=self.source,
            learnt_from=self.learnt_from,
            copy=copy,
        )

    def __repr__(self) -> str:
        n, task = len(self.detections.events), event_label(self.detections) or "no events requested"
        minutes = self.detections.analysed_seconds / 60
        return f"Found({n} {task}, {len(self.detections.hypnogram)} epochs, {minutes:.1f} min analysed)"


def _table(rows: list[tuple[Any, ...]], columns: tuple[str, ...]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame.from_records(rows, columns=list(columns))
