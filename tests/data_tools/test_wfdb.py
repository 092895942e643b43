"""WFDB records: bytes laid down by hand, another program's files, and real electrocardiograms."""

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from data_tools.wfdb import DEFAULT_DATA, read_ecg, read_header, read_samples
from siamese_jax.config.experiment import DataConfig
from siamese_jax.vocabulary import TWELVE_LEADS
from tests.data_tools.wfdb_bytes import LEADS, checksum, encoded, heartbeats, write_record

REAL = Path(__file__).parents[2] / "../shared/data"
NATIVE = DataConfig(ch_names=TWELVE_LEADS, sfreq=500.0, window_seconds=10.0)


@pytest.mark.parametrize("n_times", [1, 7])
def test_samples_are_those_written_and_nan_where_one_is_missing(tmp_path, n_times):
    digital = np.random.default_rng(0).integers(-(2**15) + 1, 2**15, (n_times, 3))
    digital[0] = -(2**15) + 1, 2**15 - 1, -(2**15)  # the smallest, the largest, a missing one
    assert encoded([-2, 258]) == b"\xfe\xff\x02\x01"
    path = write_record(tmp_path, "r", digital, leads=("a", "b", "c"), gain="200(5)/mV")
    got = read_samples(read_header(path), (2, 0))
    expected = ((digital[:, [2, 0]] - 5) * 5.0).astype(np.float32)
    expected[0, 0] = np.nan
    np.testing.assert_array_equal(got, expected)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, as wfdb calls it
def test_what_the_wfdb_package_writes_is_read_as_it_reads_it(tmp_path):
    """Another program's files and its own reading of them, with its own gains and missing samples."""
    wfdb = pytest.importorskip("wfdb")
    volts = heartbeats(10, 500) / 1000.0
    volts[40:50, 3] = np.nan
    about = {"fs": 500, "units": ["mV"] * 12, "sig_name": list(LEADS), "fmt": ["16"] * 12}
    wfdb.wrsamp("r", p_signal=volts, comments=["Dx: 1,2"], write_dir=str(tmp_path), **about)
    theirs = wfdb.rdrecord(str(tmp_path / "r")).p_signal
    header = read_header(tmp_path / "r.hea")
    got = read_samples(header, range(12))
    np.testing.assert_allclose(got, 1000 * theirs, rtol=1e-6)
    assert np.isnan(got[:, 3]).sum() == 10 and header.comments == ("Dx: 1,2",)


def test_samples_in_a_matlab_file_are_found_after_its_header(tmp_path):
    """SciPy writes the file: MATLAB stores columns, which are the samples of one moment."""
    digital, file = heartbeats(10, 500), io.BytesIO()
    savemat(file, {"val": digital.T.astype(np.int16)}, format="4")
    data = file.getvalue()
    path = write_record(tmp_path, "E00001", digital, skip=data[:24], suffix=".mat")
    assert (tmp_path / "E00001.mat").read_bytes() == data
    np.testing.assert_array_equal(read_samples(read_header(path), range(12)), digital.astype(np.float32))


@pytest.mark.parametrize(
    ("text", "sfreq", "n_times", "gain", "baseline", "unit", "description"),
    [
        ("r 1\nr.dat 16\n", 250.0, None, 200.0, 0, "mV", ""),
        ("r 1 360 10\nr.dat 16 0\n", 360.0, 10, 200.0, 0, "mV", ""),
        ("r 1 360/100(5) 10 0:0:0 0/0/0\r\nr.dat 16 40 12 7\r\n", 360.0, 10, 40.0, 7, "mV", ""),
        ("r 1 128.5 10 12:33\nr.dat 16 1000.0(-3)/uV 16 9 1 2 0 aVR\n", 128.5, 10, 1000.0, -3, "uV", "aVR"),
        ("\ufeff# before\n\nr.mat 1 500 5000 05-May-2020 09:49:17\nr.mat 16+24 1000/mV 16 0 1 2 0 I\n",)
        + (500.0, 5000, 1000.0, 0, "mV", "I"),
        ("r\t1\t1e3\t0\nr.dat\t16\t2e2/mv\t16\t0\t1\t-2\t0\tlead  II, chest \n",)
        + (1000.0, None, 200.0, 0, "mv", "lead  II, chest"),
        ("r 1 500 2006 extra words 31/2/6\nr.dat 16 200(0) 0 0 0 0 0 x", 500.0, 2006, 200.0, 0, "mV", "x"),
    ],
)
def test_fields_may_be_missing_and_dates_may_have_any_form(
    tmp_path, text, sfreq, n_times, gain, baseline, unit, description
):
    (tmp_path / "r.hea").write_bytes(text.encode())
    header = read_header(tmp_path / "r.hea")
    (signal,) = header.signals
    assert (header.sfreq, header.n_times) == (sfreq, n_times)
    assert (signal.gain, signal.baseline, signal.unit, signal.description) == (gain, baseline, unit, description)


def test_comments_are_kept_without_their_sign(tmp_path):
    path = write_record(tmp_path, "r", heartbeats(1, 100), comments=("#Dx: 1,2", "# Age: 5", "#", "#<a>:"))
    assert read_header(path).comments == ("Dx: 1,2", "Age: 5", "", "<a>:")


@pytest.mark.parametrize(("gain", "factor"), [("1/uV", 1), ("1/mV", 1e3), ("1/mv", 1e3), ("1/V", 1e6), ("100", 10)])
def test_units_become_microvolts(tmp_path, gain, factor):
    path = write_record(tmp_path, "r", np.array([[1], [-2], [3]]), leads=("I",), gain=gain)
    np.testing.assert_allclose(read_samples(read_header(path), (0,))[:, 0], np.array([1, -2, 3]) * factor, rtol=1e-6)


def test_signals_may_be_in_files_of_their_own_and_the_files_may_say_how_long_they_are(tmp_path):
    first, second = np.array([1, 2, 3, 4, 5]), np.array([9, 8, 7, 6, 5])
    (tmp_path / "a.dat").write_bytes(encoded(first))
    (tmp_path / "b.dat").write_bytes(b"head" + encoded(second))
    (tmp_path / "r.hea").write_text("r 2 100\na.dat 16 1/uV 16 0 1 15\nb.dat 16+4 1/uV 16 0 9 35\n")
    got = read_samples(read_header(tmp_path / "r.hea"), (0, 1))
    np.testing.assert_array_equal(got, np.stack([first, second], 1).astype(np.float32))


LINE = "r.dat 16 1000/mV 16 0 {first} {checksum} 0 I"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "r.hea is no WFDB header: its first line is ''"),
        ("<html><body>Not found</body></html>", "no WFDB header"),
        ("r/3 1 500 100\nr_1 50\nr_2 50", "r.hea is of a record in several segments"),
        ("r 2 500 100\n" + LINE, "is to describe 2 signals, and describes 1"),
        ("r 0 500 100", "is to describe 0 signals"),
        ("r 1 fast 100\n" + LINE, "'fast' is no sampling rate"),
        ("r 1 0 100\n" + LINE, "'0' is no sampling rate"),
        ("r 1 500 101\n" + LINE, "r.dat is cut short: 100 samples a signal, r.hea says 101"),
        ("r 1 500 99999999999999999999\n" + LINE, "r.dat is cut short"),
        ("r 99999999999 500 100\n" + LINE, "is to describe 99999999999 signals, and describes 1"),
        ("r 1 1e3 100\n" + LINE.replace("{checksum}", "{checksum}1"), "do not give the header's checksum"),
        ("r 1 500 99\n" + LINE, r"signal 1 \(I\) in r.dat is damaged: its samples do not give the header's checksum"),
        ("r 1 500 100\n" + LINE.replace(" 16 1000", " 8 1000"), "signal format 8 is not read; only 16 is"),
        ("r 1 500 100\n" + LINE.replace(" 16 1000", " 16x4 1000"), "I has a rate or a delay of its own"),
        ("r 1 500 100\n" + LINE.replace(" 16 1000", " 16:7 1000"), "I has a rate or a delay of its own"),
        ("r 1 500 100\n" + LINE.replace("mV", "mmHg"), "'mmHg' is no known unit of voltage"),
        ("r 1 500 100\n" + LINE.replace("1000", "loud"), "r.hea: not the description of a signal: 'r.dat 16 loud"),
        ("r 1 500 100\n" + LINE.replace("{checksum}", "many"), "not the description of a signal"),
        ("r 1 500 100\n" + LINE.replace("r.dat", "../r.dat"), "must be in a file beside it, not in '../r.dat'"),
        ("r 2 500 50\n" + LINE + "\n" + LINE.replace("16 1000", "16+2 1000"), "begin at different bytes"),
        ("r 1 500 100\n" + LINE.replace(" 16 1000", " 16+999999999999 1000"), "r.dat is cut short: 0 samples"),
        ("r 1 500 100\n" + LINE + "\n#" + " " * 2**20, "r.hea is larger than 1048576 bytes: no header is"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence_that_names_the_file(tmp_path, header, message):
    digital = heartbeats(0.2, 500, n_leads=1)
    (tmp_path / "r.dat").write_bytes(encoded(digital))
    text = header.replace("{first}", str(digital[0, 0])).replace("{checksum}", str(checksum(digital)))
    (tmp_path / "r.hea").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_samples(read_header(tmp_path / "r.hea"), (0,))


@pytest.mark.parametrize("at", [0, 777, 2999])
def test_one_wrong_bit_is_found(tmp_path, at):
    path = write_record(tmp_path, "r", heartbeats(0.5, 500, n_leads=6), leads=LEADS[:6])
    data = bytearray((tmp_path / "r.dat").read_bytes())
    data[at] ^= 1
    (tmp_path / "r.dat").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="do not give the header's checksum"):
        read_samples(read_header(path), range(6))


# --- electrocardiograms -----------------------------------------------------------------------------------------


def test_leads_are_known_by_name_in_any_order_and_case(tmp_path):
    digital = heartbeats(10, 500)
    order = np.random.default_rng(1).permutation(12)
    names = [LEADS[i].lower() if i % 2 else LEADS[i].upper() for i in order]
    found = read_ecg(write_record(tmp_path, "r", digital[:, order], leads=names), NATIVE)
    np.testing.assert_array_equal(found.recording.read(0, 0, 5000), digital.astype(np.float32))
    assert found.recording.present.all() and found.notes == () and found.bad == ()
    assert found.recording.ch_names == TWELVE_LEADS


def test_leads_that_are_not_there_or_do_not_move_are_absent_and_said(tmp_path):
    digital = heartbeats(10, 500, n_leads=6)
    digital[:, 3] = 7  # aVR stands still
    digital[:, 4] = -32768  # aVL has no sample
    leads = ("I", "II", "III", "aVR", "aVL", "resp")
    found = read_ecg(write_record(tmp_path, "r", digital, leads=leads), NATIVE)
    assert found.recording.present.tolist() == [True] * 3 + [False] * 9
    assert not found.recording.read(0, 0, 5000)[:, 3:].any() and found.bad == ()
    assert "constant in every stretch sampled, taken as absent: ECG-aVR" in found.notes
    assert any(note.startswith("lacks ECG-aVR, ECG-aVL, ECG-aVF") for note in found.notes)
    with pytest.raises(ValueError, match=r"r\.hea has none of the leads wanted; it has I, II, III, aVR, aVL, resp"):
        read_ecg(tmp_path / "r.hea", DataConfig(ch_names=("ECG-V1",), sfreq=500.0, window_seconds=10.0))


@pytest.mark.parametrize(("value", "message"), [(-32768, "r.hea: every sample is missing"), (5, r"\(constant\)")])
def test_a_record_without_any_signal_is_refused(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        read_ecg(write_record(tmp_path, "r", np.full((5000, 12), value)), NATIVE)


def test_missing_samples_are_bridged_and_their_seconds_bad(tmp_path):
    digital = heartbeats(10, 500)
    digital[1200:1300, 2] = -32768  # in the third second
    digital[3000:4000] = digital[3000]  # the seventh and eighth: no lead moves
    found = read_ecg(write_record(tmp_path, "r", digital), NATIVE)
    assert [(a.onset_seconds, a.duration_seconds, a.text) for a in found.bad] == [
        (2.0, 1.0, "BAD_missing"),
        (6.0, 2.0, "BAD_missing"),
    ]
    assert found.notes == ("samples are missing, or every lead stands still, for a while: not labelled there",)
    got = found.recording.read(0, 0, 5000)
    line = np.interp(np.arange(1200, 1300), [1199, 1300], digital[[1199, 1300], 2])
    np.testing.assert_allclose(got[1200:1300, 2], line, atol=1e-3)
    np.testing.assert_array_equal(got[:1200], digital[:1200].astype(np.float32))


def test_a_short_record_is_lengthened_by_its_mirror_image_and_half_a_window_is_too_short(tmp_path):
    digital = heartbeats(6, 500)
    found = read_ecg(write_record(tmp_path, "r", digital), NATIVE)
    got = found.recording.read(0, 0, 5000)
    np.testing.assert_array_equal(got[:3000], digital.astype(np.float32))
    np.testing.assert_array_equal(got[3000:], digital[2998:998:-1].astype(np.float32))
    assert found.notes == ("shorter than a window of 10 s: lengthened by its mirror image",)
    with pytest.raises(ValueError, match=r"s\.hea lasts less than half of a window of 10 s"):
        read_ecg(write_record(tmp_path, "s", heartbeats(4.9, 500)), NATIVE)


@pytest.mark.parametrize(
    ("seconds", "notes"),
    [
        (10, ()),
        (12, ("its end fills no whole window and is left out",)),
        (30, ("longer than a window of 10 s: its diagnoses count for each",)),
    ],
)
def test_what_a_long_record_means_is_said(tmp_path, seconds, notes):
    assert read_ecg(write_record(tmp_path, "r", heartbeats(seconds, 100), sfreq="100"), DEFAULT_DATA).notes == notes


@pytest.mark.parametrize("sfreq", [100, 257, 500, 1000])
def test_any_rate_becomes_the_rate_wanted_and_a_sine_stays_one(tmp_path, sfreq):
    time, wanted = np.arange(10 * sfreq) / sfreq, np.arange(1000) / 100
    sine = np.rint(1000 * np.sin(2 * np.pi * 7 * time))[:, None].astype(np.int64)
    path = write_record(tmp_path, "r", np.repeat(sine, 12, axis=1), sfreq=str(sfreq))
    got = read_ecg(path, DEFAULT_DATA).recording.read(0, 0, 1000)
    inside = slice(50, 950)  # a sine is no mirror image of itself at the ends
    expected = 1000 * np.sin(2 * np.pi * 7 * wanted)
    np.testing.assert_allclose(got[inside, 11], expected[inside], atol=3.0)


@pytest.mark.parametrize(("gain", "factor"), [("1000/V", "0.001"), ("1000/uV", "1000")])
def test_a_unit_that_is_wrong_by_a_thousand_is_said(tmp_path, gain, factor):
    (note,) = read_ecg(write_record(tmp_path, "r", heartbeats(10, 500), gain=gain), NATIVE).notes
    assert "is not that of an ECG" in note and f"times {factor} it would be" in note


def test_a_gain_that_is_not_given_is_said(tmp_path):
    (note,) = read_ecg(write_record(tmp_path, "r", heartbeats(10, 500), gain="0"), NATIVE).notes
    assert note == "its header gives no gain: 200 integers a mV taken, as WFDB does"


def test_a_gain_may_be_given_instead_of_the_headers(tmp_path):
    digital = heartbeats(10, 500)
    path = write_record(tmp_path, "r", digital, gain="37(4)/V")
    got = read_ecg(path, NATIVE, gain=500.0).recording.read(0, 0, 5000)
    np.testing.assert_array_equal(got, ((digital - 4) * 2).astype(np.float32))


def test_a_gain_beyond_all_numbers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        read_ecg(write_record(tmp_path, "r", heartbeats(10, 500), gain="1e-300/mV"), NATIVE)


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    first, second = heartbeats(10, 500, seed=1), heartbeats(20, 500, seed=2)
    path = write_record(tmp_path, "r", first)
    old = read_ecg(path, NATIVE)
    write_record(tmp_path, "other", heartbeats(10, 500, seed=3))
    read_ecg(tmp_path / "other.hea", NATIVE)
    np.testing.assert_array_equal(old.recording.read(0, 0, 5000), first.astype(np.float32))  # read again from disk
    write_record(tmp_path, "r", second)
    new = read_ecg(path, NATIVE)
    np.testing.assert_array_equal(new.recording.read(0, 5000, 10_000), second[5000:].astype(np.float32))


@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings are not here")
def test_real_leads_obey_einthoven():
    """II = I + III, and aVR = -(I + II) / 2, but for the rounding of each lead to a microvolt."""
    paths = sorted((REAL / "cinc2021").glob("E*.hea"))[::5]
    assert len(paths) == 14
    for path in paths:
        one, two, three, right = read_samples(read_header(path), range(4)).T
        assert np.abs(one + three - two).max() <= 2, path.name
        assert np.abs(one + two + 2 * right).max() <= 3, path.name
        assert np.ptp(two) > 200, path.name


@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings are not here")
def test_every_real_record_is_read_and_gives_its_checksums():
    paths = sorted([*(REAL / "ludb").glob("*.hea"), *(REAL / "cinc2021").glob("*.hea")])
    assert len(paths) == 355
    for path in paths:
        header = read_header(path)
        assert [s.description.upper() for s in header.signals] == [lead.upper() for lead in LEADS]
        signal = read_samples(header, range(12))
        assert signal.shape == (header.n_times, 12) and np.isfinite(signal).all()
