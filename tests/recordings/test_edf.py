import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.recording import recording_from_array
from siamese_jax.vocabulary import TEN_TWENTY
from tests.recordings.edf_bytes import Signal, edf_bytes, noise, save, stamp, whole

DATA = Path(__file__).parents[2] / "../shared/data"


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


def test_a_digital_range_beyond_16_bits_is_read_and_said(tmp_path):
    digital_range, physical = ("-72984", "50277"), ("-729.84", "502.77")
    signals = [Signal("C3", noise(3, 200), physical=physical, range=digital_range)]
    recording = read_recording(save(tmp_path, signals), ch_names=("C3",), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0], noise(3, 200).ravel() / 100, atol=1e-3)
    assert any("16 bits" in warning for warning in recording.report.warnings)


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
