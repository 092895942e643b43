import datetime
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from siamese_jax.recordings.edf import read_annotations, read_recording
from siamese_jax.recordings.recording import recording_from_array
from siamese_jax.vocabulary import TEN_TWENTY
from tests.recordings.edf_bytes import Signal, edf_bytes, stamp

DATA = Path(__file__).parents[2] / "../shared/data"


def noise(n_records: int, n_samples: int, seed: int = 0) -> np.ndarray:
    """White noise of 30 uV in steps of 0.1 uV."""
    return np.rint(300 * np.random.default_rng(seed).standard_normal((n_records, n_samples))).astype(int)


def save(folder: Path, *arguments, name: str = "a.edf", **keywords) -> Path:
    path = folder / name
    path.write_bytes(edf_bytes(*arguments, **keywords))
    return path


def whole(recording, segment: int = 0) -> np.ndarray:
    return recording.read(segment, 0, recording.segments[segment].n_times)


# --- values -------------------------------------------------------------------------------------------------


def test_values_are_those_of_pyedflib(tmp_path, pyedflib):
    signals = [
        Signal("EEG C3-REF", noise(5, 200), physical=("-400.5", "612")),
        Signal("C4", noise(5, 200, 1)),
    ]
    path = save(tmp_path, signals)
    with pyedflib.EdfReader(str(path)) as oracle:
        expected = np.stack([oracle.readSignal(1), oracle.readSignal(0)], axis=1)
    recording = read_recording(path, ch_names=("C4", "O1", "C3"), sfreq=200)
    signal = whole(recording)
    np.testing.assert_allclose(signal[:, [0, 2]], expected, atol=1e-4)
    assert signal.dtype == np.float32 and recording.present.tolist() == [True, False, True]
    assert not signal[:, 1].any()  # absent


def test_bdf_values_are_24_bit_and_those_of_pyedflib(tmp_path, pyedflib):
    digital = np.random.default_rng(0).integers(-(2**23), 2**23, (4, 256))
    wide = {"physical": ("-262144", "262143"), "range": ("-8388608", "8388607")}
    path = save(tmp_path, [Signal("Cz", digital, **wide)], bdf=True, reserved="24BIT", name="a.bdf")
    with pyedflib.EdfReader(str(path)) as oracle:
        expected = oracle.readSignal(0)
    signal = whole(read_recording(path, ch_names=("Cz",), sfreq=256))
    np.testing.assert_allclose(signal[:, 0], expected, rtol=1e-6, atol=0.05)  # half a step is 0.016 uV


def test_bdf_plus_annotations_and_gaps_are_read(tmp_path):
    lists = [stamp("+0"), stamp("+1", b"+1.5\x14spike\x14\x00"), stamp("+9")]
    path = save(tmp_path, [Signal("Cz", noise(3, 200))], lists=lists, reserved="BDF+D", bdf=True)
    recording = read_recording(path, ch_names=("Cz",), sfreq=200)
    assert recording.segments == ((0.0, 400), (9.0, 200))
    assert [a.text for a in recording.annotations] == ["spike"]
    np.testing.assert_allclose(whole(recording, 1)[:, 0] * 10, noise(3, 200)[2], atol=0.01)


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1), ("nV", 1e-3), ("mV", 1e3), ("V", 1e6), ("µV", 1)])
def test_units_become_microvolts(tmp_path, unit, factor):
    physical = (f"{-300 / factor:.5g}", f"{300 / factor:.5g}")
    path = save(tmp_path, [Signal("C3", noise(3, 200) * 20, unit=unit, physical=physical)])
    signal = whole(read_recording(path, ch_names=("C3",), sfreq=200))
    np.testing.assert_allclose(signal[:, 0], (noise(3, 200) * 20).ravel() * 600 / 65535, atol=0.01)


def test_megavolts_are_millivolts_with_a_warning(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(3, 200), unit="MV", physical=("-3.2768", "3.2767"))])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0], noise(3, 200).ravel() / 10, atol=1e-3)
    assert any("MV" in warning and "mV" in warning for warning in recording.report.warnings)


def test_a_unit_is_judged_only_for_a_channel_that_is_needed(tmp_path):
    signals = [
        Signal("C3", noise(3, 200)),
        Signal("C4", noise(3, 200), unit="degC"),
        Signal("SaO2", noise(3, 1)),
    ]
    path = save(tmp_path, signals)
    report = read_recording(path, ch_names=("C3",), sfreq=200).report
    assert "degC" in report.ignored["C4"] and "SaO2" in report.ignored and not report.warnings
    with pytest.raises(ValueError, match=r"a\.edf: C4 .*'degC'.*--units C4=uV"):
        read_recording(path, ch_names=("C3", "C4"), sfreq=200)


@pytest.mark.parametrize("key", ["EEG C3-LE", "C3", "*"])
def test_given_units_override_the_header(tmp_path, key):
    path = save(tmp_path, [Signal("EEG C3-LE", noise(3, 200), unit="mV")])
    signal = whole(read_recording(path, ch_names=("C3",), sfreq=200, units={key: "uV"}))
    np.testing.assert_allclose(signal[:, 0], noise(3, 200).ravel() / 10, atol=1e-4)


def test_a_given_unit_must_be_known(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(3, 200))])
    with pytest.raises(ValueError, match="parsec"):
        read_recording(path, ch_names=("C3",), sfreq=200, units={"C3": "parsec"})


@pytest.mark.parametrize(("unit", "gain", "factor"), [("nV", 1e-3, "1000"), ("mV", 1e3, "0.001"), ("V", 1e6, "1e-06")])
def test_an_implausible_amplitude_is_said_with_its_factor_and_never_scaled(tmp_path, unit, gain, factor):
    path = save(tmp_path, [Signal("C3", noise(9, 200), unit=unit)])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    (warning,) = recording.report.warnings
    assert "C3" in warning and f"times {factor} " in warning
    np.testing.assert_allclose(whole(recording).std(), 30 * gain, rtol=0.1)


def test_plausible_amplitude_is_judged_on_eeg_only(tmp_path):
    signals = [Signal("C3", noise(9, 200)), Signal("ECG", noise(9, 200) * 100)]
    assert not read_recording(save(tmp_path, signals), ch_names=("C3", "ECG1"), sfreq=200).report.warnings


def test_a_digital_range_beyond_16_bits_is_read_and_said(tmp_path):
    digital_range, physical = ("-72984", "50277"), ("-729.84", "502.77")
    signals = [Signal("C3", noise(3, 200), physical=physical, range=digital_range)]
    recording = read_recording(save(tmp_path, signals), ch_names=("C3",), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0], noise(3, 200).ravel() / 100, atol=1e-3)
    assert any("16 bits" in warning for warning in recording.report.warnings)


# --- channels -----------------------------------------------------------------------------------------------


def test_the_report_says_what_was_used_renamed_missed_and_ignored(tmp_path):
    labels = ("EEG FP1-REF", "EEG T7-REF", "Fp1-F7", "SaO2")
    path = save(tmp_path, [Signal(label, noise(3, 200, i)) for i, label in enumerate(labels)])
    recording = read_recording(path, ch_names=("T3", "Fp1", "F7"), sfreq=200)
    assert recording.report.used == {"T3": "EEG T7-REF", "Fp1": "EEG FP1-REF"}
    assert recording.report.renamed == {"EEG T7-REF": "T3"}
    assert recording.report.missing == ("F7",)
    assert set(recording.report.ignored) == {"Fp1-F7", "SaO2"}
    np.testing.assert_allclose(whole(recording)[:, 1] * 10, noise(3, 200, 0).ravel(), atol=0.01)


def test_a_bipolar_channel_is_never_taken_for_an_electrode(tmp_path):
    path = save(tmp_path, [Signal("FP1-F7", noise(3, 200)), Signal("T8-P8-0", noise(3, 200))])
    with pytest.raises(ValueError, match=r"a\.edf .*FP1-F7, T8-P8-0"):
        read_recording(path, ch_names=TEN_TWENTY, sfreq=200)


def test_an_ear_derivation_stands_for_its_electrode_with_one_warning(tmp_path):
    labels = ("C3-A2", "C4-M1", "O1-A2", "O1")
    path = save(tmp_path, [Signal(label, noise(3, 200, i)) for i, label in enumerate(labels)])
    recording = read_recording(path, ch_names=("C3", "C4", "O1"), sfreq=200)
    assert recording.report.used == {"C3": "C3-A2", "C4": "C4-M1", "O1": "O1"}
    (warning,) = recording.report.warnings
    assert "C3 from C3-A2, C4 from C4-M1" in warning and "ear" in warning


def test_mixed_common_references_are_refused_among_the_channels_used(tmp_path):
    signals = [Signal("EEG C3-REF", noise(3, 200)), Signal("EEG C4-LE", noise(3, 200))]
    path = save(tmp_path, signals)
    with pytest.raises(ValueError, match=r"a\.edf mixes common references.*C3-REF, EEG C4-LE"):
        read_recording(path, ch_names=("C3", "C4"), sfreq=200)
    assert read_recording(path, ch_names=("C3", "O1"), sfreq=200).present.tolist() == [True, False]


def test_of_two_channels_with_one_label_the_first_is_used_and_said(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(3, 200, 5)), Signal("C3", noise(3, 200, 6))])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0] * 10, noise(3, 200, 5).ravel(), atol=0.01)
    assert any("more than once" in w for w in recording.report.warnings)
    assert "C3 (#2)" in recording.report.ignored


def test_slow_eeg_is_refused_and_other_channels_are_not(tmp_path):
    signals = [Signal("C3", noise(3, 99)), Signal("C4", noise(3, 100)), Signal("EMG", noise(3, 50))]
    path = save(tmp_path, signals)
    recording = read_recording(path, ch_names=("C3", "C4", "EMG1"), sfreq=200)
    assert recording.present.tolist() == [False, True, True]
    assert "99 Hz is too slow" in recording.report.ignored["C3"]
    with pytest.raises(ValueError, match=r"a\.edf .*99 Hz is too slow: IED analysis needs at least 100 Hz"):
        read_recording(path, ch_names=("C3", "EMG1"), sfreq=200)


def test_a_constant_channel_is_absent_and_said(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(40, 200)), Signal("C4", np.full((40, 200), 7))])
    recording = read_recording(path, ch_names=("C3", "C4"), sfreq=200)
    assert recording.present.tolist() == [True, False]
    assert "C4" in recording.report.missing and recording.report.ignored["C4"] == "constant"
    assert any("constant" in w and "C4" in w for w in recording.report.warnings)
    assert not whole(recording)[:, 1].any()
    with pytest.raises(ValueError, match=r"a\.edf: every wanted EEG channel is constant: C4"):
        read_recording(path, ch_names=("C4",), sfreq=200)


@pytest.mark.parametrize(
    "bad",
    [
        {"physical": ("0", "0")},
        {"range": ("5", "5")},
        {"range": ("9", "-9")},
        {"physical": ("nan", "1")},
        {"physical": ("-1e99", "1e99")},
        {"physical": ("a", "b")},
        {"range": ("", "")},
    ],
)
def test_a_channel_that_cannot_be_calibrated_is_absent_with_a_reason(tmp_path, bad):
    path = save(tmp_path, [Signal("C3", noise(3, 200)), Signal("C4", noise(3, 200), **bad)])
    recording = read_recording(path, ch_names=("C3", "C4"), sfreq=200)
    assert recording.present.tolist() == [True, False]
    assert "calibrated" in recording.report.ignored["C4"]


# --- resampling ---------------------------------------------------------------------------------------------


def test_each_channel_is_resampled_on_its_own_as_scipy_resamples_it_whole(tmp_path):
    rates = {"C3": 200, "C4": 512, "O1": 128, "EMG": 100, "ECG": 1}
    path = save(tmp_path, [Signal(label, noise(30, rate, rate)) for label, rate in rates.items()])
    recording = read_recording(path, ch_names=("C3", "C4", "O1", "EMG1"), sfreq=200)
    signal = whole(recording)
    assert recording.segments[0].n_times == 6000
    for column, rate in enumerate((200, 512, 128, 100)):
        oracle = scipy.signal.resample_poly(noise(30, rate, rate).ravel() / 10, 200, rate)
        error = np.abs(signal[:, column] - oracle)[200:-200]  # scipy continues the ends with zeros
        assert error.max() < 30 * 0.02 and np.sqrt((error**2).mean()) < 30 * 0.002


def test_a_rate_is_exact_from_samples_and_seconds_of_a_record(tmp_path):
    rate = 50 / 0.25025  # 199.8002 Hz: taken for 200, the last of 250 s would be a quarter of a second late
    sine = 1000 * np.sin(2 * np.pi * 20 * np.arange(50_000) / rate)
    path = save(tmp_path, [Signal("C3", np.rint(sine).astype(int).reshape(1000, 50))], seconds="0.25025")
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    assert recording.segments[0].n_times == int(250.25 * 200)
    expected = 100 * np.sin(2 * np.pi * 20 * np.arange(50_050) / 200)
    np.testing.assert_allclose(whole(recording)[200:-200, 0], expected[200:-200], atol=0.3)


@pytest.mark.parametrize("rate", ["500", "512", "199.8", "128", "499.907"])
def test_blocks_equal_one_read_of_everything(rate):
    signal = 50 * np.random.default_rng(0).standard_normal((3000, 2)) + 3e5  # a large electrode offset
    recording = recording_from_array(
        signal, sfreq=float(rate), ch_names=("C3", "C4"), target_ch_names=("C4", "C3"), target_sfreq=200
    )
    n = recording.segments[0].n_times
    everything = whole(recording)
    for size in (1, 17, 600):
        blocks = [recording.read(0, a, min(a + size, n)) for a in range(0, n, size)]
        np.testing.assert_allclose(np.concatenate(blocks), everything, atol=1e-4)


def test_blocks_of_a_file_equal_one_read_of_everything(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(70, 500)), Signal("C4", noise(70, 256))])
    recording = read_recording(path, ch_names=("C3", "C4"), sfreq=200)
    everything, rng = whole(recording), np.random.default_rng(0)
    for _ in range(30):
        start, stop = np.sort(rng.integers(0, 14001, 2)).tolist()
        np.testing.assert_allclose(recording.read(0, start, stop), everything[start:stop], atol=1e-4)


@pytest.mark.parametrize("rate", [128.0, 256.0, 500.0, 199.8, 499.907])
def test_resampling_keeps_a_sine_in_amplitude_and_time(rate):
    time = np.arange(int(100 * rate)) / rate  # long enough for every phase of the filter to occur
    recording = recording_from_array(
        100 * np.sin(2 * np.pi * 21 * time)[:, None],
        sfreq=rate,
        ch_names=("C3",),
        target_ch_names=("C3",),
        target_sfreq=200,
    )
    out = np.arange(recording.segments[0].n_times) / 200
    expected = 100 * np.sin(2 * np.pi * 21 * out)
    np.testing.assert_allclose(whole(recording)[200:-200, 0], expected[200:-200], atol=0.2)


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    sine = 100 * np.sin(2 * np.pi * 140 * np.arange(5000) / 500)[:, None]
    recording = recording_from_array(sine, sfreq=500, ch_names=("C3",), target_ch_names=("C3",), target_sfreq=200)
    assert np.abs(whole(recording)[100:-100]).max() < 0.2  # it would alias to 60 Hz


def test_an_electrode_offset_leaves_no_ripple():
    step = np.full((4000, 1), 3e5, np.float32)
    step[0] += 1  # not constant
    recording = recording_from_array(step, sfreq=512, ch_names=("C3",), target_ch_names=("C3",), target_sfreq=200)
    assert np.ptp(whole(recording)[100:]) < 0.3  # ten steps of float32 at this size


def test_the_ends_of_a_segment_are_continued_by_even_reflection():
    signal = np.cumsum(np.random.default_rng(0).standard_normal((700, 1)), axis=0)
    keywords = {"ch_names": ("C3",), "target_ch_names": ("C3",), "sfreq": 500, "target_sfreq": 200}
    n = recording_from_array(signal, **keywords).segments[0].n_times
    longer = np.pad(signal, ((100, 100), (0, 0)), mode="reflect")  # 100 samples are 40 at the lower rate
    expected = whole(recording_from_array(longer, **keywords))[40 : 40 + n]
    np.testing.assert_allclose(whole(recording_from_array(signal, **keywords)), expected, atol=1e-4)


# --- time ---------------------------------------------------------------------------------------------------


def gapped(folder: Path, digital: np.ndarray) -> Path:
    onsets = ("+0", "+1", "+2", "+100.5", "+101.5")
    lists = [stamp(onset) for onset in onsets]
    lists[3] += b"+101.25\x150.5\x14spike\x14\x00"
    return save(folder, [Signal("C3", digital)], lists=lists, reserved="EDF+D")


def test_records_with_a_gap_between_them_are_segments_with_true_onsets(tmp_path):
    recording = read_recording(gapped(tmp_path, noise(5, 250)), ch_names=("C3",), sfreq=250)
    assert recording.segments == ((0.0, 750), (100.5, 500))
    np.testing.assert_allclose(whole(recording, 1)[:, 0] * 10, noise(5, 250)[3:].ravel(), atol=0.01)
    assert recording.annotations == ((101.25, 0.5, "spike", None),)
    assert any("1 gap" in w and "97.5 s" in w for w in recording.report.warnings)


def test_resampling_does_not_reach_across_a_gap(tmp_path):
    digital = noise(5, 250)
    before = whole(read_recording(gapped(tmp_path, digital), ch_names=("C3",), sfreq=200), 1)
    digital[:3] = noise(3, 250, 9)
    after = whole(read_recording(gapped(tmp_path, digital), ch_names=("C3",), sfreq=200), 1)
    np.testing.assert_array_equal(before, after)


def test_onsets_rounded_within_half_a_sample_are_no_gap_and_beyond_it_are(tmp_path):
    for offset, n_segments in (("1.0019", 1), ("1.0021", 2)):  # half a sample of 250 Hz is 0.002 s
        lists = [stamp("+0"), stamp(f"+{offset}")]
        path = save(tmp_path, [Signal("C3", noise(2, 250))], lists=lists, reserved="EDF+D")
        assert len(read_recording(path, ch_names=("C3",), sfreq=250).segments) == n_segments


def test_a_start_below_a_second_is_in_the_first_stamp(tmp_path):
    lists = [stamp("+0.375", b"+0.5\x14spike\x14\x00"), stamp("+1.375")]
    path = save(tmp_path, [Signal("C3", noise(2, 200))], lists=lists, reserved="EDF+C")
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    assert recording.segments == ((0.375, 400),)
    assert recording.annotations[0].onset_seconds == 0.5


def test_stamps_decide_in_a_file_that_calls_itself_continuous(tmp_path):
    lists = [stamp("+0"), stamp("+5"), stamp("+3")]
    path = save(tmp_path, [Signal("C3", noise(3, 200))], lists=lists, reserved="EDF+C")
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    assert [s.onset_seconds for s in recording.segments] == [0.0, 5.0, 3.0]
    assert any("before the one before them ends" in w for w in recording.report.warnings)


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
        (-0.5, 0.0, "before", None),
        (0.0, 0.0, "Recording starts", None),
        (3.0, 0.0, "spike", "T3"),
        (4.0, 0.0, "Füße", None),
        (5.0, 0.0, "Füße", None),
        (10.5, 2.25, "one", None),
        (10.5, 2.25, "two", None),
    )


@pytest.mark.parametrize(
    ("patient", "code"),
    [
        ("P0042 F 02-MAY-1951 Haagse_Harry", "P0042"),
        ("00000258 M X X", "00000258"),
        ("X X X X", None),
        ("Unknown X X X", None),
        ("Jane Doe, 3rd floor", None),
        ("", None),
    ],
)
def test_the_patient_code_is_that_of_edf_plus_and_no_placeholder(tmp_path, patient, code):
    path = save(tmp_path, [Signal("C3", noise(2, 200))], patient=patient)
    assert read_recording(path, ch_names=("C3",), sfreq=200).patient_code == code


@pytest.mark.parametrize(
    ("recording", "date", "time", "start"),
    [
        ("Startdate 02-MAR-2072 X X X", "02.03.72", "22.14.05", datetime.datetime(2072, 3, 2, 22, 14, 5)),
        ("a sleep study", "28.02.85", "01.02.03", datetime.datetime(1985, 2, 28, 1, 2, 3)),
        ("a sleep study", "28.02.84", "01.02.03", datetime.datetime(2084, 2, 28, 1, 2, 3)),
        ("Startdate X X X X", "01.01.85", "00.00.00", None),
        ("a sleep study", "31.02.99", "01.02.03", None),
        ("a sleep study", "28.02.85", "25.00.00", None),
    ],
)
def test_the_start_is_that_of_the_header(tmp_path, recording, date, time, start):
    path = save(tmp_path, [Signal("C3", noise(2, 200))], recording=recording, date=date, time=time)
    assert read_recording(path, ch_names=("C3",), sfreq=200).start_datetime == start


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "cut", "n_records", "truncated"),
    [
        ("10", 0, 10, False),
        ("12", 0, 10, True),
        ("-1", 0, 10, True),
        ("10", 150, 9, True),
        ("10", 400, 9, True),
        ("9", 150, 9, True),
        ("8", 0, 10, False),
    ],
)
def test_a_cut_file_is_read_as_far_as_its_whole_records_go(tmp_path, claimed, cut, n_records, truncated):
    data = edf_bytes([Signal("C3", noise(10, 200))], claimed=claimed)
    path = tmp_path / "cut.edf"
    path.write_bytes(data[: len(data) - cut])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    assert recording.segments == ((0.0, 200 * n_records),)
    assert recording.report.truncated is truncated
    assert recording.report.records_expected == (None if claimed == "-1" else int(claimed))
    assert recording.report.records_read == n_records
    assert bool(recording.report.warnings) == (claimed != "10" or cut > 0)


def patched(at: int, value: bytes) -> bytes:
    data = bytearray(edf_bytes([Signal("C3", noise(3, 200)), Signal("C4", noise(3, 200))]))
    data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "neither EDF nor BDF"),
        (patched(0, b"")[:100], "cut inside its header"),
        (patched(0, b"")[:700], "cut inside its header"),
        (patched(0, b"")[:900], "no whole data record"),
        (patched(252, b"9999"), "cut inside its header"),
        (patched(252, b"-1  "), "number of signals"),
        (patched(252, b"1e9 "), "number of signals"),
        (patched(236, b"many    "), "number of data records"),
        (patched(244, b"1e999999"), "seconds in a data record"),
        (patched(244, b"nan     "), "seconds in a data record"),
        (patched(244, b"-1      "), "seconds in a data record"),
        (patched(244, b"0       "), "annotations only"),
        (patched(256 + 2 * 216, 2 * b"99999999"), "data records of"),
        (patched(256 + 2 * 216, b"-200    "), "samples in a record"),
        (patched(256 + 2 * 216, b"0       0       "), "data records of 0 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence_that_names_it(tmp_path, data, message):
    path = tmp_path / "broken.edf"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_recording(path, ch_names=("C3", "C4"), sfreq=200)
    assert "broken.edf" in str(caught.value) and "\n" not in str(caught.value)


def test_nul_bytes_in_the_header_count_as_spaces(tmp_path):
    data = edf_bytes([Signal("C3", noise(3, 200))])
    path = tmp_path / "nul.edf"
    path.write_bytes(data[:512].replace(b" ", b"\0") + data[512:])
    np.testing.assert_allclose(
        whole(read_recording(path, ch_names=("C3",), sfreq=200))[:, 0] * 10, noise(3, 200).ravel(), atol=0.01
    )


@pytest.mark.parametrize("kind", ["EDF", "EDF+D", "BDF+C"])
def test_any_header_gives_a_recording_or_a_value_error(tmp_path, kind):
    lists = None if kind == "EDF" else [stamp(f"+{i}", b"+1.5\x151\x14spike\x14\x00") for i in range(4)]
    signals = [Signal("C3", noise(4, 128)), Signal("EEG C4-REF", noise(4, 100, 1), unit="mV")]
    data = edf_bytes(signals, lists=lists, reserved="" if kind == "EDF" else kind, bdf=kind == "BDF+C")
    rng = np.random.default_rng(0)
    n_read = 0
    for case in range(200):
        broken = bytearray(data)
        n_header = 256 * (3 if lists is None else 4)
        # digits and signs make numbers that parse; any byte makes text that does not
        letters = b"0123456789-+.e \x00" if case % 2 else bytes(range(256))
        end = n_header if case % 4 else len(data)
        for at in rng.integers(0, end, rng.integers(1, 6)):
            broken[at] = letters[rng.integers(len(letters))]
        path = tmp_path / "fuzz.edf"
        path.write_bytes(broken[: rng.integers(1, len(broken))] if case % 10 == 0 else broken)
        try:
            recording = read_recording(path, ch_names=("C3", "C4"), sfreq=200)
        except ValueError:
            continue
        n_read += 1
        for segment, (_, n_times) in enumerate(recording.segments[:3]):
            assert recording.read(segment, 0, min(n_times, 500)).shape[1] == 2
    assert n_read > 50  # most mutations do not matter: the loop does reach the reading


def test_a_file_that_shrinks_while_it_is_read_is_said(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(20, 200))])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="shorter"):
        whole(recording)


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("segment", "start", "stop"), [(1, 0, 1), (-1, 0, 1), (0, -1, 5), (0, 0, 401), (0, 5, 4)])
def test_samples_that_do_not_exist_are_refused(tmp_path, segment, start, stop):
    recording = read_recording(save(tmp_path, [Signal("C3", noise(2, 200))]), ch_names=("C3",), sfreq=200)
    with pytest.raises(ValueError, match="segment"):
        recording.read(segment, start, stop)
    assert recording.read(0, 400, 400).shape == (0, 1)


def test_threads_read_the_same_samples(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(60, 500))])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    everything, wrong = whole(recording), []

    def work(seed: int) -> None:
        for start in np.random.default_rng(seed).integers(0, 11000, 40).tolist():
            if not np.array_equal(recording.read(0, start, start + 1000), everything[start : start + 1000]):
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of resident memory is Linux's")
def test_memory_does_not_grow_with_length(tmp_path):
    """A file of 100 MB read in blocks needs no more memory, mapped pages included, than one of 5 MB.

    Not by getrusage: its maximum survives exec, so it would be that of the test run itself.
    """
    data = edf_bytes([Signal(f"EEG {name}-Ref", noise(5, 500, i)) for i, name in enumerate(TEN_TWENTY)])
    header, records = data[: 256 * 20], data[256 * 20 :]
    for name, n_times in (("short", 50), ("long", 1000)):
        claimed = header[:236] + b"%-8d" % (5 * n_times) + header[244:]
        (tmp_path / name).write_bytes(claimed + records * n_times)
    program = """
import pathlib, re, sys
from siamese_jax.recordings.edf import read_recording
from siamese_jax.vocabulary import TEN_TWENTY
for path in sys.argv[1:]:
    recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=200)
    n_times = recording.segments[0].n_times
    for start in range(0, n_times, 120_000):
        recording.read(0, start, min(start + 12_000, n_times))
    print(int(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1024)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "short"), str(tmp_path / "long")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    short, long = map(float, output.split())
    assert long - short < 5  # MB


def test_an_array_is_the_same_recording_as_its_file(tmp_path):
    digital = [noise(20, 256, i) for i in range(2)]
    path = save(tmp_path, [Signal("EEG T7-REF", digital[0]), Signal("C3", digital[1])])
    microvolts = np.stack([one.ravel() / 10 for one in digital], axis=1)
    keywords = {"target_ch_names": ("C3", "Cz", "T3"), "target_sfreq": 200}
    array = recording_from_array(microvolts, sfreq=256, ch_names=("EEG T7-REF", "C3"), **keywords)
    file = read_recording(path, ch_names=("C3", "Cz", "T3"), sfreq=200)
    np.testing.assert_allclose(whole(array), whole(file), atol=1e-3)
    assert array.present.tolist() == file.present.tolist() == [True, False, True]
    assert array.segments == file.segments and array.report.used == file.report.used


def test_an_array_in_volts_is_doubted():
    volts = 30e-6 * np.random.default_rng(0).standard_normal((2000, 1))
    recording = recording_from_array(volts, sfreq=200, ch_names=("C3",), target_ch_names=("C3",), target_sfreq=200)
    assert "times 1e+06" in recording.report.warnings[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_array_must_be_finite_and_named(bad):
    signal = np.ones((100, 2))
    keywords = {"sfreq": 200, "target_ch_names": ("C3",), "target_sfreq": 200}
    with pytest.raises(ValueError, match=r"\(100, 2\).* 1 channel names"):
        recording_from_array(signal, ch_names=("C3",), **keywords)
    signal[3, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        recording_from_array(signal, ch_names=("C3", "C4"), **keywords)


# --- real recordings ----------------------------------------------------------------------------------------


def electrocardiogram(scale: float = 1.0) -> np.ndarray:
    """R waves of 1 mV each second and noise of 30 uV in two leads, and a lead that is all but flat."""
    beats = 1000 * np.exp(-(((np.arange(6000) / 100 % 1 - 0.5) / 0.02) ** 2))
    noise = np.random.default_rng(0).normal(0, 1, (6000, 3))
    return scale * (beats[:, None] * [1, -1, 0] + noise * [30, 30, 0.1])


@pytest.mark.parametrize(
    ("scale", "said"),
    [(1.0, None), (1e-3, "times 1000 it would be"), (1e3, "times 0.001 it would be"), (1e6, "times 1e-06 it would be")],
)
def test_an_array_without_eeg_is_an_electrocardiogram_judged_by_its_leads_median(scale, said):
    leads = ("ECG-I", "ECG-aVR", "ECG-V1")
    recording = recording_from_array(
        electrocardiogram(scale), sfreq=100, ch_names=leads, target_ch_names=(*leads, "ECG-V2"), target_sfreq=100
    )
    assert recording.present.tolist() == [True, True, True, False]
    assert recording.report.missing == ("ECG-V2",)
    warnings = recording.report.warnings
    assert len(warnings) == (said is not None)
    assert said is None or ("is not that of an ECG" in warnings[0] and said in warnings[0])


def test_an_ecg_beside_an_eeg_is_not_judged():
    eeg = 30 * np.random.default_rng(0).standard_normal((6000, 1))
    array = np.concatenate([eeg, electrocardiogram(1e6)], axis=1)
    names = ("C3", "ECG1", "ECG2", "EMG1")
    recording = recording_from_array(array, sfreq=100, ch_names=names, target_ch_names=names, target_sfreq=100)
    assert recording.present.all() and not recording.report.warnings


def test_leads_that_are_all_constant_are_no_electrocardiogram():
    leads = ("ECG-I", "ECG-II")
    with pytest.raises(ValueError, match="the array: every wanted channel is constant: ECG-I, ECG-II"):
        recording_from_array(np.ones((100, 2)), sfreq=100, ch_names=leads, target_ch_names=leads, target_sfreq=100)


needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} with real recordings is not here")


@needs_data
def test_a_real_recording_that_lacks_four_electrodes(pyedflib):
    path = DATA / "eeglab-sample/eeglab_data.edf"
    recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=128)
    assert recording.report.missing == ("Fp1", "Fp2", "F7", "F8")
    assert recording.report.renamed == {"EEG T7": "T3", "EEG T8": "T4", "EEG P7": "T5", "EEG P8": "T6"}
    assert len(recording.annotations) == 154 and not recording.report.warnings
    with pyedflib.EdfReader(str(path)) as oracle:
        labels = oracle.getSignalLabels()
        expected = oracle.readSignal(labels.index("EEG T7"))
    np.testing.assert_allclose(whole(recording)[:, TEN_TWENTY.index("T3")], expected, atol=1e-4)


@needs_data
def test_a_real_polysomnogram_at_50_hz_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"excerpt3\.edf .*O1-A1, C3-A1, FP1-A1 \(50 Hz is too slow"):
        read_recording(DATA / "dreams-spindles/excerpt3.edf", ch_names=TEN_TWENTY, sfreq=200)
