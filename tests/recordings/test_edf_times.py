import datetime
from collections.abc import Iterable
from pathlib import Path

import edfio
import numpy as np
import pytest

from siamese_jax.recordings.edf import read_annotations, read_recording
from siamese_jax.recordings.recording import Annotation, Segment
from tests.recordings.edf_bytes import Signal, noise, save, stamp, whole


def gapped(folder: Path, digital: np.ndarray) -> Path:
    onsets = ("+0", "+1", "+2", "+100.5", "+101.5")
    lists = [stamp(onset) for onset in onsets]
    lists[3] += b"+101.25\x150.5\x14spike\x14\x00"
    return save(folder, [Signal("C3", digital)], lists=lists, reserved="EDF+D")


def test_records_with_a_gap_between_them_are_segments_with_true_onsets(tmp_path):
    recording = read_recording(gapped(tmp_path, noise(5, 250)), ch_names=("C3",), sfreq=250)
    assert recording.segments == ((0.0, 750), (100.5, 500))
    np.testing.assert_allclose(whole(recording, 1)[:, 0] * 10, noise(5, 250)[3:].ravel(), atol=0.01)
    assert recording.annotations == (Annotation(101.25, 0.5, "spike"),)
    assert any("1 gap" in w and "97.5 s" in w for w in recording.report.warnings)


def test_resampling_does_not_reach_across_a_gap(tmp_path):
    digital = noise(5, 250)
    before = whole(read_recording(gapped(tmp_path, digital), ch_names=("C3",), sfreq=200), 1)
    digital[:3] = noise(3, 250, 9)
    after = whole(read_recording(gapped(tmp_path, digital), ch_names=("C3",), sfreq=200), 1)
    np.testing.assert_array_equal(before, after)


def lists_of(onsets: Iterable[float], digits: str) -> list[bytes]:
    return [stamp(f"{onset:+{digits}}") for onset in onsets]


def stretches(folder: Path, lists: list[bytes], *, rate: int = 256, seconds: str = "1", **keywords) -> list[Segment]:
    n_in_record = round(rate * float(seconds))
    path = save(folder, [Signal("C3", noise(len(lists), n_in_record))], lists=lists, seconds=seconds, **keywords)
    return list(read_recording(path, ch_names=("C3",), sfreq=rate).segments)


@pytest.mark.parametrize(("onset", "n_segments"), [("1.0020", 1), ("1.0022", 2), ("0.9980", 1), ("0.9978", 2)])
def test_a_gap_is_more_than_half_a_sample_and_the_stamps_last_digit(tmp_path, onset, n_segments):
    """Of 250 Hz that is 0.002 s and 0.0001 s."""
    assert len(stretches(tmp_path, [stamp("+0.0000"), stamp(f"+{onset}")], rate=250)) == n_segments


@pytest.mark.parametrize(
    ("seconds", "rate", "digits"),
    [
        ("0.0625", 1024, ".3f"),  # rounded, half to even
        ("0.0625", 1024, ".4g"),  # four digits in all: hundredths of a second after 10 s
        ("0.125", 256, ".2f"),
        ("0.25", 256, ".0f"),  # whole seconds
        ("1", 1024, ".6g"),
    ],
)
def test_stamps_that_are_rounded_part_nothing(tmp_path, seconds, rate, digits):
    onsets = np.arange(320) * float(seconds)
    assert stretches(tmp_path, lists_of(onsets, digits), rate=rate, seconds=seconds) == [
        Segment(0.0, round(320 * float(seconds) * rate))
    ]


def test_stamps_that_are_cut_part_nothing(tmp_path):
    onsets = np.floor(np.arange(320) * 0.0625 * 1000) / 1000
    assert len(stretches(tmp_path, lists_of(onsets, ".3f"), rate=1024, seconds="0.0625")) == 1


@pytest.mark.parametrize(
    ("seconds", "digits", "gap"),
    [("0.0625", ".3f", 0.003), ("0.0625", ".3f", 4.0), ("0.125", ".2f", 0.03), ("1", ".0f", 1.0), ("0.5", ".0f", 2.0)],
)
def test_a_gap_among_rounded_stamps_is_found(tmp_path, seconds, digits, gap):
    onsets = np.arange(64) * float(seconds)
    onsets[40:] += gap
    first, second = stretches(tmp_path, lists_of(onsets, digits), rate=512, seconds=seconds)
    assert (first.n_times, second.n_times) == (40 * 512 * float(seconds), 24 * 512 * float(seconds))
    assert second.onset_seconds == pytest.approx(onsets[40], abs=0.5 * 10 ** -int(digits[1]))


def drifting(n_records: int, seconds: float, drift: float) -> list[bytes]:
    return lists_of(np.arange(n_records) * seconds * (1 + drift), ".4f")


@pytest.mark.parametrize("drift", [2e-5, -2e-5])
@pytest.mark.parametrize(
    ("seconds", "n_records", "rate"),
    [("1", 2400, 128), ("0.0625", 9600, 128), ("30", 40, 2048)],  # in 30 s it drifts by more than a sample
)
def test_a_slow_drift_of_the_clock_parts_nothing(tmp_path, drift, seconds, n_records, rate):
    """A crystal's 20 ppm, until they are a twentieth of a second or a quarter of a record."""
    assert len(stretches(tmp_path, drifting(n_records, float(seconds), drift), rate=rate, seconds=seconds)) == 1


@pytest.mark.parametrize("drift", [1e-4, -1e-4])
@pytest.mark.parametrize(("seconds", "allowed"), [("1", 0.05), ("0.0625", 0.0625 / 4)])
def test_a_drift_parts_a_recording_before_marks_are_in_the_wrong_place(tmp_path, drift, seconds, allowed):
    step = float(seconds)
    lists = drifting(3200, step, drift)
    path = save(tmp_path, [Signal("C3", noise(3200, round(128 * step)))], lists=lists, seconds=seconds)
    recording = read_recording(path, ch_names=("C3",), sfreq=128)
    first_samples = np.cumsum([0, *(segment.n_times for segment in recording.segments)])[:-1] / 128
    n_in_stretch = allowed / abs(drift) * 128
    assert len(recording.segments) == np.ceil(3200 * step * abs(drift) / allowed) > 1
    assert all(abs(segment.n_times - n_in_stretch) <= 3 * 128 for segment in recording.segments[:-1])
    onsets = [segment.onset_seconds for segment in recording.segments]
    np.testing.assert_allclose(onsets, first_samples * (1 + drift), atol=1e-4)  # the stamps' last digit
    said = f"time stamps drift from the samples: {len(onsets) - 1} time(s) by {allowed:g} s, which parts the recording"
    assert [line for line in recording.report.warnings if "time" in line] == [said]


def test_a_small_gap_in_a_drifting_recording_is_found_where_it_is(tmp_path):
    onsets = np.arange(300) * (1 + 2e-5)
    onsets[200:] += 0.008
    first, second = stretches(tmp_path, lists_of(onsets, ".4f"))
    assert (first.n_times, second.n_times) == (200 * 256, 100 * 256)


def test_time_counts_from_the_first_sample_which_a_file_may_give_to_a_fraction_of_a_second(tmp_path):
    lists = [stamp("+0.375", b"+0.5\x14spike\x14\x00"), stamp("+1.375"), stamp("+10.375")]
    keywords = {"recording": "Startdate 02-MAR-2020 X X X", "time": "22.00.00", "reserved": "EDF+D"}
    path = save(tmp_path, [Signal("C3", noise(3, 200))], lists=lists, **keywords)
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    assert recording.segments == ((0.0, 400), (10.0, 200))
    assert recording.annotations == read_annotations(path) == (Annotation(0.125, 0.0, "spike"),)
    assert recording.start_datetime == datetime.datetime(2020, 3, 2, 22, 0, 0, 375_000)


def test_times_are_those_of_mne_edfio_and_pyedflib(tmp_path, pyedflib):
    mne = pytest.importorskip("mne")
    lists = [stamp(f"+{i}.7", f"+{i + 1.1}\x14m{i}\x14\x00".encode()) for i in range(4)]
    path = save(tmp_path, [Signal("C3", noise(4, 200))], lists=lists, reserved="EDF+C")
    ours = [a.onset_seconds for a in read_annotations(path)]
    assert ours == [0.4, 1.4, 2.4, 3.4]  # decimals, not what is left of them after a subtraction
    assert ours == [a.onset for a in edfio.read_edf(path).annotations]
    np.testing.assert_allclose(mne.io.read_raw_edf(path, verbose="error").annotations.onset, ours)
    with pyedflib.EdfReader(str(path)) as oracle:
        np.testing.assert_allclose(oracle.readAnnotations()[0], ours)


@pytest.mark.parametrize(
    ("onsets", "record", "overlap"),
    [
        ((0, 1, 2, 0, 1), 4, "3 s"),  # the clock went back
        ((0, 5, 3), 3, "3 s"),
        ((0, 1, 1.5, 2.5), 3, "0.5 s"),  # records overlap
        ((0, 1, 1.89, 2.89), 3, "0.11 s"),
        ((0, 1, 1, 2), 3, "1 s"),  # a record twice
        ((0, 0, 0, 0), 2, "1 s"),
        ((0, 100, 101, 50), 4, "52 s"),  # back between two stretches
    ],
)
def test_a_clock_that_goes_back_is_refused_with_the_record(tmp_path, onsets, record, overlap):
    """Else a time would name two moments: marks would be read in the wrong stretch, and hypnograms merged."""
    with pytest.raises(ValueError, match=rf"a\.edf: data record {record} starts {overlap} before .*split it") as caught:
        stretches(tmp_path, lists_of(onsets, "g"), reserved="EDF+D")
    assert f"({onsets[record - 1]:g} s after the first sample)" in str(caught.value)


def test_an_overlap_below_a_tenth_of_a_second_is_kept_and_said(tmp_path):
    """A clock that was set right: no mark can then count for windows of both stretches."""
    path = save(tmp_path, [Signal("C3", noise(6, 200))], lists=lists_of((0, 1, 2, 2.95, 3.95, 4.95), "g"))
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    assert recording.segments == ((0.0, 600), (2.95, 600))
    assert "1 data record(s) start before the one before them ends, by 0.05 s at most" in recording.report.warnings
    with pytest.raises(ValueError, match="data record 3 starts 0.05 s"):  # more than half a record
        stretches(tmp_path, lists_of((0, 0.09, 0.13, 0.22), "g"), rate=1000, seconds="0.09")


def test_stamps_decide_in_a_file_that_calls_itself_continuous(tmp_path):
    found = stretches(tmp_path, lists_of((0, 5, 7), "g"), reserved="EDF+C")
    assert [segment.onset_seconds for segment in found] == [0.0, 5.0, 7.0]


def test_a_record_without_a_stamp_follows_the_one_before(tmp_path):
    lists = [stamp("+0"), stamp("+7"), b"junk\x00", stamp("+9")]
    path = save(tmp_path, [Signal("C3", noise(4, 200))], lists=lists, reserved="EDF+D")
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    assert recording.segments == ((0.0, 200), (7.0, 600))
    assert any("without a time stamp" in w for w in recording.report.warnings)
    assert any("damaged" in w for w in recording.report.warnings)


def test_annotations_as_the_standard_writes_them(tmp_path):
    block = (
        b"+0\x14\x14Recording starts\x14\x00"  # EDF+ 2.2.4: more after the empty first annotation
        b"+10.5\x152.25\x14one\x14two\x14\x00"  # two annotations of one onset
        b"-0.5\x14before\x14\x00"
        b"+3\x14spike@@EEG T7-REF\x14\x00" + "+4\x14Füße\x14\x00".encode() + "+5\x14Füße\x14\x00".encode("latin-1")
    )
    path = save(tmp_path, [Signal("C3", noise(1, 200))], lists=[block], reserved="EDF+C")
    assert read_annotations(path) == (
        Annotation(-0.5, 0.0, "before"),
        Annotation(0.0, 0.0, "Recording starts"),
        Annotation(3.0, 0.0, "spike", "T3"),
        Annotation(4.0, 0.0, "Füße"),
        Annotation(5.0, 0.0, "Füße"),
        Annotation(10.5, 2.25, "one"),
        Annotation(10.5, 2.25, "two"),
    )
