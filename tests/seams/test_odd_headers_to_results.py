"""Recordings with odd headers, all the way to the files that `detect` writes: same times, right identity, every reader.

The signal holds a spike at known samples, and the events are put there: a mark is right if it lies on its spike.
"""

import csv
import datetime
import json
from typing import NamedTuple

import edfio
import numpy as np
import pytest

from siamese_jax.cohort.sources import Folder
from siamese_jax.config.experiment import DataConfig
from siamese_jax.detection.detect import Detection, Detections
from siamese_jax.detection.results import Written, write_detections
from siamese_jax.recordings.edf import read_annotations, read_recording
from siamese_jax.recordings.edf_records import read_layout, start_datetime
from siamese_jax.recordings.recording import Recording
from siamese_jax.recordings.windows import window_grid, window_onsets
from siamese_jax.shards.labels import RULES
from siamese_jax.vocabulary import IED
from tests.recordings.edf_bytes import Signal, edf_bytes, noise, stamp

RATE, N_RECORDS = 128, 40
SPIKES = (5.5, 17.25, 30.125)
"""Seconds of signal, gaps left out."""


DATA = DataConfig(ch_names=("C3", "C4"), sfreq=RATE, window_seconds=2.0)


class Odd(NamedTuple):
    """A header, and what must come of it."""

    fields: dict
    code: str | None = None
    start: datetime.datetime | None = None
    late: float | None = 0.0
    """The first time stamp; None has no stamps."""
    gap: float = 0.0
    """Before the 20th record."""
    n_records: int = N_RECORDS
    notes: tuple[str, ...] = ()
    hides_start: bool = False


def dated(year: int, *, code: str = "P7") -> dict:
    return {
        "recording": f"Startdate 02-MAR-{year} X X X",
        "date": f"02.03.{year % 100:02}",
        "time": "22.14.05",
        "patient": f"{code} F X X",
    }


AT = datetime.datetime(2020, 3, 2, 22, 14, 5)
ODD = {
    "plain EDF": Odd(
        {"patient": "Jane Doe", "recording": "a study", "date": "02/03/20", "time": "22.14.05"}, start=AT, late=None
    ),
    "cut": Odd(dated(2020), "P7", AT, n_records=N_RECORDS - 1, notes=("cut",)),
    "a fraction": Odd(dated(2020), "P7", AT + datetime.timedelta(seconds=0.75), late=0.75),
    "a fraction, hidden": Odd({}, late=0.0625),
    "a gap": Odd(dated(2020) | {"reserved": "EDF+D"}, "P7", AT, gap=100.0),
    "a fraction and a gap": Odd(dated(2020), "P7", AT + datetime.timedelta(seconds=0.5), late=0.5, gap=33.3),
    "before 1985": Odd(dated(1900), "P7", datetime.datetime(1900, 3, 2, 22, 14, 5), hides_start=True),
    "after 2084": Odd(dated(2150), "P7", datetime.datetime(2150, 3, 2, 22, 14, 5), hides_start=True),
    "a code": Odd(dated(2020, code="Pü7"), "Pü7", AT),
    "decimal commas": Odd(dated(2020) | {"seconds": "1,0"}, "P7", AT, notes=("1,0",)),
    "BDF": Odd(dated(2020) | {"bdf": True}, "P7", AT + datetime.timedelta(seconds=0.75), late=0.75),
}


@pytest.fixture(params=ODD)
def odd(request) -> Odd:
    return ODD[request.param]


@pytest.fixture
def recording(odd, tmp_path) -> Recording:
    eeg = np.stack([noise(N_RECORDS, RATE, i) for i in range(2)])
    for spike in SPIKES:
        eeg.reshape(2, -1)[0, round(spike * RATE)] = -9000
    wide = {"range": ("-32768", "32767")} if odd.fields.get("bdf") else {}
    fields = dict(odd.fields)
    if odd.late is not None:
        at = [i + odd.late + (odd.gap if i >= 20 else 0) for i in range(N_RECORDS)]
        own = f"+{at[3]:g}\x14Lights off\x14\x00".encode()
        fields["lists"] = [stamp(f"+{t:g}", own if i == 3 else b"") for i, t in enumerate(at)]
        fields.setdefault("reserved", f"{'BDF' if odd.fields.get('bdf') else 'EDF'}+{'D' if odd.gap else 'C'}")
    path = tmp_path / f"odd.{'bdf' if odd.fields.get('bdf') else 'edf'}"
    data = edf_bytes([Signal(label, eeg[i], **wide) for i, label in enumerate(("EEG C3-Pz", "EEG C4-Pz"))], **fields)
    path.write_bytes(data[:-7] if odd.n_records < N_RECORDS else data)
    return read_recording(path, ch_names=("C3", "C4", "Pz"), sfreq=RATE)


@pytest.fixture
def peaks(odd) -> list[float]:
    """Where the spikes are, in seconds from the first sample by the clock."""
    return [spike + (odd.gap if spike >= 20 else 0) for spike in SPIKES]


@pytest.fixture
def written(odd, recording, peaks, tmp_path) -> Written:
    events = tuple(Detection(t, 0.1, t + 0.05, 0.9, "C3", -900.0, None) for t in peaks)
    return write_detections(
        tmp_path / "out", recording, Detections(events, (), 40, 40, 0.5, "given"), provenance={}, copy=True
    )


def test_a_recording_is_read_with_its_identity_and_its_times(odd, recording, peaks):
    assert (recording.patient_code, recording.start_datetime) == (odd.code, odd.start)
    assert sum(segment.n_times for segment in recording.segments) == RATE * odd.n_records
    assert recording.segments[0].onset_seconds == 0
    assert [a.onset_seconds for a in recording.annotations] == ([] if odd.late is None else [3.0])
    assert deepest(recording) == pytest.approx(peaks, abs=1e-6)
    assert all(any(note in said for said in recording.report.warnings) for note in odd.notes)


def test_every_reader_finds_the_marks_where_the_spikes_are(odd, written, peaks):
    mne, pyedflib = pytest.importorskip("mne"), pytest.importorskip("pyedflib")
    with written.events.open() as file:
        assert [float(row["onset"]) for row in csv.DictReader(file)] == pytest.approx(peaks, abs=1e-3)
    for path in filter(None, (written.annotations, written.copy)):
        found = [a for a in read_annotations(path) if a.text == "IED p=0.90"]
        assert [a.onset_seconds for a in found] == pytest.approx(peaks, abs=1e-6)
        assert {(a.origin, a.channel, a.duration_seconds) for a in found} == {("machine", "C3", 0.1)}
        onsets = [a.onset for a in edfio.read_edf(path).annotations if a.text.startswith("IED")]
        assert onsets == pytest.approx(peaks, abs=1e-6)
        marks = mne.read_annotations(path)
        theirs = [t for t, text in zip(marks.onset, marks.description, strict=True) if text.startswith("IED")]
        assert theirs == pytest.approx(peaks, abs=1e-6)
        if path != written.copy or not odd.gap:  # EDFlib reads no files with gaps
            with pyedflib.EdfReader(str(path)) as oracle:
                theirs = [t for t, _, text in zip(*oracle.readAnnotations(), strict=True) if text.startswith("IED")]
            assert theirs == pytest.approx(peaks, abs=1e-6)


def test_the_copy_is_the_recording_with_the_marks_on_its_spikes(odd, recording, written, peaks):
    if odd.fields.get("bdf"):
        assert written.copy is None and "BDF" in written.notes[0]
        return
    copy = read_recording(written.copy, ch_names=("C3", "C4", "Pz"), sfreq=RATE)
    assert copy.segments == recording.segments
    for index, segment in enumerate(copy.segments):
        np.testing.assert_array_equal(copy.read(index, 0, segment.n_times), recording.read(index, 0, segment.n_times))
    assert deepest(copy) == pytest.approx([a.onset_seconds for a in copy.annotations if a.origin == "machine"])
    assert [a for a in copy.annotations if a.origin == "human"] == list(recording.annotations)


def test_the_identity_is_that_of_the_recording_or_hidden_and_said(odd, recording, written):
    can_code = odd.code is None or odd.code.isascii()
    for path in filter(None, (written.annotations, written.copy)):
        theirs = edfio.read_edf(path)
        assert start_datetime(read_layout(path)) == (None if odd.hides_start else odd.start)
        assert theirs.patient.code == ((odd.code or "X") if can_code else "X")
        said = [note for note in written.notes if note.startswith(path.name)]
        assert len(said) == odd.hides_start + (not can_code), said
    record = json.loads(written.run.read_text())
    assert set(written.notes) <= set(record["warnings"])
    assert [s["onset_seconds"] for s in record["segments"]] == [s.onset_seconds for s in recording.segments]


def test_marks_beside_a_recording_count_from_its_first_sample(odd, recording, peaks):
    """As MNE, EDFbrowser, EEGLAB and FieldTrip count them: the windows with a spike are those that get the label."""
    rows = "".join(f"{peak},0,spike\n" for peak in peaks)
    recording.path.with_suffix(".csv").write_text(f"onset,duration,label\n{rows}")
    opened = Folder(recording.path.parent).open(recording.path.name, DATA)
    grid = window_grid(opened.recording.segments, window=2 * RATE, hop=2 * RATE)
    onsets = window_onsets(opened.recording.segments, grid, sfreq=RATE)
    (rule,) = (rule for rule in RULES if rule.task == IED)
    label = rule.label(opened.annotations, onsets, window_seconds=2.0).label
    least = [
        opened.recording.read(int(segment), start, start + 2 * RATE)[:, 0].min()
        for segment, start in zip(grid.segment, grid.start.tolist(), strict=True)
    ]
    assert label.sum() == 3
    assert label.tolist() == [int(value < -800) for value in least]


def test_nothing_of_it_becomes_a_label(written, tmp_path):
    """The copy is renamed and put among recordings that somebody marked."""
    if written.copy is None:
        return
    folder = tmp_path / "marked"
    folder.mkdir()
    written.copy.rename(folder / "night.edf")
    written.annotations.rename(folder / "night_annotations.edf")
    marks = Folder(folder).open("night.edf", DATA).annotations
    assert not [m for m in marks if m.origin == "human" and any(rule.class_of(m.text) for rule in RULES)]


def deepest(recording: Recording) -> list[float]:
    """The three deepest troughs of C3, in seconds from the first sample."""
    times, values = [], []
    for index, segment in enumerate(recording.segments):
        values.append(recording.read(index, 0, segment.n_times)[:, 0])
        times.append(segment.onset_seconds + np.arange(segment.n_times) / RATE)
    return sorted(np.concatenate(times)[np.argsort(np.concatenate(values))[:3]].tolist())
