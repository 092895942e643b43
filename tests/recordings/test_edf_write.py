import datetime
from collections import Counter
from pathlib import Path

import edfio
import numpy as np
import pytest

from siamese_jax.recordings import edf_write
from siamese_jax.recordings.edf import read_annotations, read_recording
from siamese_jax.recordings.edf_records import read_layout, start_datetime
from siamese_jax.recordings.edf_write import write_annotated_copy, write_annotations, write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.vocabulary import LEADS_29
from tests.recordings.edf_bytes import Signal, edf_bytes, stamp

DATA = Path(__file__).parents[2] / "../shared/data"
EVENTS = (
    Annotation(1.25, 0.08, "ied", "T3"),
    Annotation(0.5, 0.0, "Sleep stage N2"),
    Annotation(2.123456, 30.0, "Füße"),
)


def noise(n_records: int, n_samples: int, seed: int = 0) -> np.ndarray:
    return np.rint(300 * np.random.default_rng(seed).standard_normal((n_records, n_samples))).astype(int)


def by_onset(annotations) -> tuple[Annotation, ...]:
    return tuple(sorted(annotations, key=lambda annotation: annotation.onset_seconds))


# --- write_recording ----------------------------------------------------------------------------------------


def test_what_is_written_is_read_by_us_and_by_pyedflib(tmp_path, pyedflib):
    eeg = 60 * np.random.default_rng(0).standard_normal((2000, 29)).astype(np.float32)
    start = datetime.datetime(2031, 5, 17, 22, 14, 5)
    path = tmp_path / "a.edf"
    write_recording(
        path, eeg, sfreq=500, ch_names=LEADS_29, annotations=EVENTS, patient_code="P7", sex="F", start=start
    )
    recording = read_recording(path, ch_names=LEADS_29, sfreq=500)
    step = max(100, np.ceil(np.abs(eeg).max())) / 32767
    np.testing.assert_allclose(recording.read(0, 0, 2000), eeg, atol=step / 2 + 1e-4)
    assert recording.present.all() and not recording.report.warnings
    assert recording.annotations == by_onset(EVENTS)
    assert (recording.patient_code, recording.start_datetime) == ("P7", start)
    with pyedflib.EdfReader(str(path)) as oracle:  # an EDF+ reader that refuses what breaks the standard
        assert oracle.getLabel(12) == "EEG T3-Ref" and oracle.getLabel(23) == "ECG ECG1"
        assert oracle.getPhysicalDimension(0) == "uV"
        assert oracle.getPatientCode() == "P7" and oracle.getStartdatetime() == start
        np.testing.assert_allclose(oracle.readSignal(3), eeg[:, 3], atol=step)
        assert oracle.readAnnotations()[2].tolist() == ["Sleep stage N2", "ied@@EEG T3-Ref", "Füße"]


def test_a_constant_zero_stays_zero_and_large_values_are_not_clipped(tmp_path):
    eeg = np.zeros((400, 2))
    eeg[::2, 1] = -54321.0
    write_recording(tmp_path / "a.edf", eeg, sfreq=200, ch_names=("C3", "C4"))
    zero, large = edfio.read_edf(tmp_path / "a.edf").signals
    assert not zero.data.any() and zero.physical_range == (-100, 100)
    np.testing.assert_allclose(large.data, eeg[:, 1], atol=1)


@pytest.mark.parametrize(
    ("shape", "names", "value", "message"),
    [
        ((400, 1), ("C3", "C4"), 0.0, "2 names for 1 channels"),
        ((401, 1), ("C3",), 0.0, "401 samples are no whole number"),
        ((400, 1), ("C3",), np.nan, "finite"),
        ((400, 1), ("C3",), 1e8, "within"),
        ((400, 1), ("electrode",), 0.0, "16 ASCII"),
    ],
)
def test_what_edf_cannot_hold_is_refused_and_leaves_no_file(tmp_path, shape, names, value, message):
    with pytest.raises(ValueError, match=message):
        write_recording(tmp_path / "a.edf", np.full(shape, value), sfreq=200, ch_names=names)
    assert not list(tmp_path.iterdir())


def test_a_rate_with_a_fraction_gets_records_of_whole_samples(tmp_path):
    eeg = noise(1, 999 * 3).reshape(-1, 1) / 10
    write_recording(tmp_path / "a.edf", eeg, sfreq=199.8, ch_names=("C3",))
    recording = read_recording(tmp_path / "a.edf", ch_names=("C3",), sfreq=199.8)
    assert recording.segments[0].n_times == 999 * 3


# --- write_annotations --------------------------------------------------------------------------------------


def test_annotations_alone_make_a_file_that_we_and_edfio_read(tmp_path):
    start = datetime.datetime(2031, 5, 17, 22, 14, 5)
    write_annotations(tmp_path / "a.edf", EVENTS, start=start, patient_code="P7")
    assert read_annotations(tmp_path / "a.edf") == by_onset(EVENTS)
    oracle = edfio.read_edf(tmp_path / "a.edf")
    assert oracle.reserved == "EDF+C" and oracle.data_record_duration == 0 and not oracle.signals
    assert oracle.startdatetime == start and oracle.patient.code == "P7"
    assert [a.text for a in oracle.annotations] == ["Sleep stage N2", "ied@@T3", "Füße"]


def test_no_annotations_are_a_file_too(tmp_path):
    write_annotations(tmp_path / "a.edf", ())
    assert read_annotations(tmp_path / "a.edf") == ()
    assert not any(a.text for a in edfio.read_edf(tmp_path / "a.edf").annotations)


@pytest.mark.parametrize("text", ["", "a\x14b", "a\nb", "a\x00b"])
def test_a_text_that_would_break_its_list_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="printable"):
        write_annotations(tmp_path / "a.edf", [Annotation(0.0, 0.0, text)])


@pytest.mark.parametrize(("onset", "duration"), [(np.nan, 0.0), (0.0, np.inf), (0.0, -1.0)])
def test_times_must_be_numbers(tmp_path, onset, duration):
    with pytest.raises(ValueError, match="numbers of seconds"):
        write_annotations(tmp_path / "a.edf", [Annotation(onset, duration, "ied")])


def test_a_start_with_a_fraction_stands_in_the_time_stamp_and_every_reader_finds_the_marks(tmp_path, pyedflib):
    """EDF+ 2.2.4: the header has whole seconds, the first time stamp the rest, and onsets count from the header's."""
    mne = pytest.importorskip("mne")
    start = datetime.datetime(2031, 1, 1, 22, 14, 5, 750_000)
    marks = [Annotation(0.25, 0.0, "one"), Annotation(10.1, 2.0, "two")]
    write_annotations(tmp_path / "a.edf", marks, start=start)
    write_recording(tmp_path / "b.edf", noise(20, 200).reshape(-1, 1) / 10, sfreq=200, ch_names=["C3"], start=start)
    assert b"+0.75\x14\x14\x00+1\x14one\x14\x00+10.85\x152\x14two\x14" in (tmp_path / "a.edf").read_bytes()
    assert list(read_annotations(tmp_path / "a.edf")) == marks
    assert list(mne.read_annotations(tmp_path / "a.edf").onset) == [0.25, 10.1]
    assert [a.onset for a in edfio.read_edf(tmp_path / "a.edf").annotations] == [0.25, 10.1]
    with pyedflib.EdfReader(str(tmp_path / "a.edf")) as oracle:
        np.testing.assert_allclose(oracle.readAnnotations()[0], [0.25, 10.1], atol=1e-6)
    for name in ("a.edf", "b.edf"):
        assert start_datetime(read_layout(tmp_path / name)) == edfio.read_edf(tmp_path / name).startdatetime == start


# --- who made annotations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["human", "machine", "reviewed", "simulated"])
def test_who_made_annotations_is_known_after_renaming_and_copying(tmp_path, origin):
    """Human marks of the source stay human in its copy, and a machine's stay a machine's in a copy of that."""
    marks = [a._replace(origin=origin) for a in EVENTS]
    path = source(tmp_path, "EDF+C")
    write_annotations(tmp_path / "alone.edf", marks)
    write_annotated_copy(path, tmp_path / "copy.edf", marks)
    write_annotated_copy(tmp_path / "copy.edf", tmp_path / "again.edf", [Annotation(3.0, 0.0, "mine", "T3")])
    write_recording(
        tmp_path / "new.edf", np.ones((400, 1)), sfreq=200, ch_names=["C3"], annotations=marks, patient_code="P7"
    )
    old = read_annotations(path)
    assert {a.origin for a in old} == {"human"}
    for name, expected in (
        ("alone.edf", marks),
        ("new.edf", marks),
        ("copy.edf", [*old, *marks]),
        ("again.edf", [*old, *marks, Annotation(3.0, 0.0, "mine", "T3")]),
    ):
        (tmp_path / name).rename(tmp_path / "renamed.edf")
        assert Counter(read_annotations(tmp_path / "renamed.edf")) == Counter(expected), name
        assert (b"siamese-jax" in (tmp_path / "renamed.edf").read_bytes()) is (origin != "human")


def test_a_file_without_annotations_is_a_machines(tmp_path):
    """A person who found nothing says so in other ways; a machine that found nothing must not become negatives."""
    write_annotations(tmp_path / "a.edf", ())
    assert edfio.read_edf(tmp_path / "a.edf").recording.equipment_code == "siamese-jax"


def test_annotations_of_two_origins_are_refused(tmp_path):
    two = [Annotation(0.0, 0.0, "a"), Annotation(0.0, 0.0, "b", origin="machine")]
    with pytest.raises(ValueError, match="one origin .* given human, machine"):
        write_annotations(tmp_path / "a.edf", two)


# --- who was recorded, and when -------------------------------------------------------------------------------

HIDDEN = "the start date is hidden: EDF+ holds the years 1985 to 2084, not {}"


@pytest.mark.parametrize(("year", "hidden"), [(1984, True), (1985, False), (2084, False), (2085, True), (1900, True)])
def test_a_year_that_edf_cannot_hold_is_hidden_and_said_and_the_time_of_day_is_kept(tmp_path, pyedflib, year, hidden):
    start = datetime.datetime(year, 3, 12, 22, 14, 5)
    notes = write_annotations(tmp_path / "a.edf", EVENTS, start=start, patient_code="P7")
    assert notes == ((HIDDEN.format(year),) if hidden else ())
    oracle = edfio.read_edf(tmp_path / "a.edf")
    assert oracle.recording._to_str().split()[1] == ("X" if hidden else f"12-MAR-{year}")
    assert oracle.starttime == start.time() and oracle.patient.code == "P7"
    assert start_datetime(read_layout(tmp_path / "a.edf")) == (None if hidden else start)
    path = source(tmp_path, "EDF+C", recording=f"Startdate 12-MAR-{year} ward X X", date=f"12.03.{year % 100:02}")
    assert write_annotated_copy(path, tmp_path / "copy.edf", EVENTS).notes == notes
    copy = edfio.read_edf(tmp_path / "copy.edf")
    assert copy.local_recording_identification == f"Startdate {'X' if hidden else f'12-MAR-{year}'} ward X X"
    pyedflib.EdfReader(str(tmp_path / "copy.edf")).close()


@pytest.mark.parametrize("code", ["Pü7", "P\x017", "P 7", "P" * 75, ""])
def test_a_code_that_edf_cannot_hold_is_hidden_and_said(tmp_path, code):
    (note,) = write_annotations(tmp_path / "a.edf", EVENTS, patient_code=code)
    assert "patient code is hidden" in note and (not code or code not in note)
    assert edfio.read_edf(tmp_path / "a.edf").patient.code == "X"
    assert write_recording(tmp_path / "b.edf", np.ones((200, 1)), sfreq=200, ch_names=["C3"], patient_code=code) == (
        note,
    )
    assert write_annotations(tmp_path / "c.edf", EVENTS, patient_code="P" * 74) == ()


@pytest.mark.parametrize(
    ("kind", "patient", "recording", "copied"),
    [
        ("EDF+C", "Pü7 F X Müller", "Startdate X X Jørgen X", ("X F X X", "Startdate X X X X")),
        ("EDF", "Anna Müller", "Schlaf, 3. Stock", ("X X X X Anna X", "Startdate 17-NOV-2003 X X X Schlaf, 3. Stock")),
    ],
)
def test_words_of_the_header_that_edf_cannot_hold_are_hidden_in_a_copy(
    tmp_path, pyedflib, kind, patient, recording, copied
):
    fields = {**KINDS[kind], "patient": patient, "recording": recording}
    path = tmp_path / "source.edf"
    path.write_bytes(edf_bytes([Signal("C3", noise(4, 200))], **fields))
    notes = write_annotated_copy(path, tmp_path / "copy.edf", EVENTS).notes
    assert len(notes) == 1 + (kind == "EDF+C") and "patient field are hidden" in notes[0]
    copy = edfio.read_edf(tmp_path / "copy.edf")
    assert (copy.local_patient_identification, copy.local_recording_identification) == copied
    pyedflib.EdfReader(str(tmp_path / "copy.edf")).close()


# --- write_annotated_copy -----------------------------------------------------------------------------------

GAPPED = [stamp("+0.25", b"+0.5\x14old\x14\x00"), stamp("+1.25"), stamp("+60"), stamp("+61")]
KINDS = {
    "EDF": {"patient": "Jane Doe, 3rd floor", "recording": "a sleep study", "date": "17.11.03"},
    "EDF+C": {"lists": [stamp(f"+{i}", b"+0.5\x14old\x14\x00") for i in range(4)], "reserved": "EDF+C"},
    "EDF+D": {"lists": GAPPED, "reserved": "EDF+D"},
}


def source(folder: Path, kind: str, **more) -> Path:
    signals = [Signal("EEG T7-REF", noise(4, 200)), Signal("SaO2", noise(4, 1), unit="%")]
    path = folder / "source.edf"
    path.write_bytes(edf_bytes(signals, **KINDS[kind], **more))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_keeps_every_signal_byte_and_gets_the_annotations(tmp_path, kind):
    path, target = source(tmp_path, kind), tmp_path / "target.edf"
    write_annotated_copy(path, target, EVENTS)
    old, new = (edfio.read_edf(p) for p in (path, target))
    assert new.reserved == ("EDF+C" if kind == "EDF" else kind)
    for was, now in zip(old.signals, new.signals, strict=True):
        np.testing.assert_array_equal(was.digital, now.digital)
        assert (was.label, was.physical_range, was.digital_range) == (
            now.label,
            now.physical_range,
            now.digital_range,
        )
    before, after = (read_recording(p, ch_names=("T3",), sfreq=200) for p in (path, target))
    assert after.segments == before.segments and before.segments[0].onset_seconds == 0
    assert Counter(after.annotations) == Counter(before.annotations) + Counter(EVENTS)
    assert after.start_datetime == before.start_datetime
    np.testing.assert_array_equal(before.read(0, 0, 400), after.read(0, 0, 400))


@pytest.mark.parametrize("late", [None, "0", "0.75", "0.0625"])
def test_a_copy_is_a_valid_edf_plus_file_to_pyedflib_and_mne(tmp_path, pyedflib, late):
    mne = pytest.importorskip("mne")
    lists = None if late is None else [stamp(f"+{i + float(late):g}") for i in range(4)]
    fields = {} if late is None else {"lists": lists, "reserved": "EDF+C"}
    path = tmp_path / "source.edf"
    path.write_bytes(edf_bytes([Signal("EEG T7-REF", noise(4, 200))], **fields))
    write_annotated_copy(path, tmp_path / "target.edf", EVENTS)
    with pyedflib.EdfReader(str(tmp_path / "target.edf")) as oracle:  # strict about records that follow each other
        assert oracle.filetype == pyedflib.FILETYPE_EDFPLUS
        onsets, durations, texts = oracle.readAnnotations()
        np.testing.assert_allclose(onsets, [0.5, 1.25, 2.123456], atol=1e-6)
        assert texts.tolist() == ["Sleep stage N2", "ied@@EEG T7-REF", "Füße"]
        np.testing.assert_array_equal(oracle.readSignal(0, digital=True), noise(4, 200).ravel())
    raw = mne.io.read_raw_edf(tmp_path / "target.edf", verbose="error")
    np.testing.assert_allclose(raw.annotations.onset, [0.5, 1.25, 2.123456], atol=1e-6)
    assert read_annotations(tmp_path / "target.edf") == by_onset(EVENTS)


def test_a_plain_edf_keeps_its_identification_behind_that_of_edf_plus(tmp_path):
    write_annotated_copy(source(tmp_path, "EDF"), tmp_path / "target.edf", EVENTS)
    copy = edfio.read_edf(tmp_path / "target.edf")
    assert copy.local_patient_identification == "X X X X Jane Doe, 3rd floor"
    assert copy.local_recording_identification == "Startdate 17-NOV-2003 X X X a sleep study"


def test_identification_that_does_not_fit_gives_way_and_signals_do_not(tmp_path):
    path = tmp_path / "source.edf"
    path.write_bytes(edf_bytes([Signal("C3", noise(2, 200))], patient="x" * 80, recording="y" * 80))
    write_annotated_copy(path, tmp_path / "target.edf", EVENTS)
    copy = edfio.read_edf(tmp_path / "target.edf")
    assert copy.local_patient_identification == "X X X X"
    assert copy.local_recording_identification == "Startdate 01-JAN-1985 X X X"
    np.testing.assert_array_equal(copy.signals[0].digital, noise(2, 200).ravel())


def test_many_annotations_are_spread_over_the_records(tmp_path):
    events = [Annotation(i / 1000, 0.05, "ied", "T3") for i in range(1000)]  # all in the first second
    path = tmp_path / "source.edf"
    path.write_bytes(edf_bytes([Signal("EEG T7-REF", noise(100, 200))]))
    write_annotated_copy(path, tmp_path / "target.edf", events)
    grown = (tmp_path / "target.edf").stat().st_size - path.stat().st_size - 256
    said = sum(len(f"+{a.onset_seconds:g}\x150.05\x14ied@@EEG T7-REF\x14\x00") for a in events)
    stamps = 100 * len("+99\x14\x14\x00")
    assert grown < 1.3 * (said + stamps)
    assert len(read_annotations(tmp_path / "target.edf")) == 1000


def test_no_annotations_still_make_an_edf_plus_copy(tmp_path):
    write_annotated_copy(source(tmp_path, "EDF+D"), tmp_path / "target.edf", ())
    assert [a.text for a in read_annotations(tmp_path / "target.edf")] == ["old"]


@pytest.mark.parametrize("claimed", ["9", "-1"])
def test_of_a_cut_file_the_whole_records_are_copied(tmp_path, claimed):
    path = source(tmp_path, "EDF+C", claimed=claimed)
    path.write_bytes(path.read_bytes()[:-100])
    write_annotated_copy(path, tmp_path / "target.edf", EVENTS)
    copy = read_recording(tmp_path / "target.edf", ch_names=("T3",), sfreq=200)
    assert copy.segments == ((0.0, 600),) and not copy.report.truncated


def test_what_cannot_be_copied_is_refused_by_name(tmp_path):
    path = tmp_path / "a.bdf"
    path.write_bytes(edf_bytes([Signal("C3", noise(2, 200))], bdf=True))
    with pytest.raises(ValueError, match=r"a\.bdf is BDF"):
        write_annotated_copy(path, tmp_path / "b.edf", EVENTS)
    write_annotations(tmp_path / "hypnogram.edf", EVENTS)
    with pytest.raises(ValueError, match=r"hypnogram\.edf holds annotations only"):
        write_annotated_copy(tmp_path / "hypnogram.edf", tmp_path / "b.edf", EVENTS)
    path = source(tmp_path, "EDF")
    with pytest.raises(ValueError, match="take its place"):
        write_annotated_copy(path, path, EVENTS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:], "other signals"),
        (lambda data: data.replace(b"+2\x14\x14", b"+7\x14\x14"), "other record onsets"),
        (lambda data: data.replace(b"Sleep stage N2", b"Sleep stage N3"), "other annotations"),
        (lambda data: data.replace(b"EEG T7-REF ", b"EEG T8-REF ", 1), "another header"),
    ],
)
def test_a_copy_that_reads_back_differently_is_thrown_away(tmp_path, monkeypatch, spoil, message):
    path = source(tmp_path, "EDF")
    check = edf_write._check_copy

    def spoilt(old, new, *expected):
        data = new.path.read_bytes()
        assert spoil(data) != data
        new.path.write_bytes(spoil(data))
        check(old, edf_write.read_layout(new.path), *expected)

    monkeypatch.setattr(edf_write, "_check_copy", spoilt)
    with pytest.raises(ValueError, match=message):
        write_annotated_copy(path, tmp_path / "target.edf", EVENTS)
    assert [p.name for p in tmp_path.iterdir()] == ["source.edf"]


def test_a_failed_write_leaves_the_old_file_as_it_was(tmp_path):
    target = tmp_path / "a.edf"
    write_annotations(target, EVENTS)
    before = target.read_bytes()
    with pytest.raises(ValueError, match="printable"):
        write_annotations(target, [Annotation(0.0, 0.0, "")])
    assert target.read_bytes() == before and list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} with real recordings is not here")
@pytest.mark.parametrize("name", ["eeglab-sample/eeglab_data.edf", "dreams-spindles/excerpt3.edf"])
def test_real_files_are_copied(tmp_path, name):
    target = tmp_path / "target.edf"
    write_annotated_copy(DATA / name, target, EVENTS)
    old, new = edfio.read_edf(DATA / name), edfio.read_edf(target)
    for was, now in zip(old.signals, new.signals, strict=True):
        np.testing.assert_array_equal(was.digital, now.digital)
    assert len(new.annotations) == len(old.annotations) + 3
