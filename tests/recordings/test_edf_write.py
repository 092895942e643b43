import datetime
from collections import Counter
from pathlib import Path

import edfio
import numpy as np
import pytest

from siamese_jax.recordings import edf_write
from siamese_jax.recordings.edf import read_annotations, read_recording
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
    assert not zero.data.any()
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


def test_a_start_with_a_fraction_is_refused(tmp_path):
    with pytest.raises(ValueError, match="whole second"):
        write_annotations(tmp_path / "a.edf", EVENTS, start=datetime.datetime(2031, 1, 1, 0, 0, 0, 500))


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
    assert after.segments == before.segments
    assert Counter(after.annotations) == Counter(before.annotations) + Counter(EVENTS)
    assert after.start_datetime == before.start_datetime
    np.testing.assert_array_equal(before.read(0, 0, 400), after.read(0, 0, 400))


def test_a_copy_is_a_valid_edf_plus_file_to_pyedflib(tmp_path, pyedflib):
    write_annotated_copy(source(tmp_path, "EDF"), tmp_path / "target.edf", EVENTS)
    with pyedflib.EdfReader(str(tmp_path / "target.edf")) as oracle:  # strict about records that follow each other
        assert oracle.filetype == pyedflib.FILETYPE_EDFPLUS
        onsets, durations, texts = oracle.readAnnotations()
        np.testing.assert_allclose(onsets, [0.5, 1.25, 2.123456], atol=1e-6)
        assert texts.tolist() == ["Sleep stage N2", "ied@@EEG T7-REF", "Füße"]
        np.testing.assert_array_equal(oracle.readSignal(0, digital=True), noise(4, 200).ravel())


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

    def spoilt(old, new, stamped):
        data = new.path.read_bytes()
        assert spoil(data) != data
        new.path.write_bytes(spoil(data))
        check(old, edf_write.read_layout(new.path), stamped)

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
    with pytest.raises(RuntimeError), edf_write._replacing(target) as file:
        file.write(b"half")
        raise RuntimeError
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
