import datetime

import numpy as np
import pytest

from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.edf_records import read_layout, start_datetime
from siamese_jax.recordings.edf_write import write_annotated_copy
from siamese_jax.recordings.recording import Annotation
from tests.recordings.edf_bytes import Signal, edf_bytes, noise, save, stamp, whole


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


@pytest.mark.parametrize(("limits", "is_read"), [(("-9.9e14", "9.9e14"), True), (("-1.1e15", "1.1e15"), False)])
def test_a_physical_range_that_no_unit_explains_is_not_calibrated(tmp_path, limits, is_read):
    signals = [Signal("C3", noise(3, 200)), Signal("C4", noise(3, 200), unit="nV", physical=limits)]
    report = read_recording(save(tmp_path, signals), ch_names=("C3", "C4"), sfreq=200).report
    assert ("C4" in report.used) is is_read


# --- numbers that EDF writes otherwise ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("physical", "digital"),
    [
        (("-3276,8", "3276,7"), ("-32768", "32767")),
        (("-3276.80", "3276,70"), ("-32768.", "32767.0")),
        (("-3276.8", "3,2767e3"), ("-32768,0", "+32767")),
    ],
)
def test_decimal_commas_and_points_in_whole_numbers_are_read_and_said(tmp_path, physical, digital):
    signals = [Signal("C3", noise(3, 200), physical=physical, range=digital), Signal("C4", noise(3, 200))]
    recording = read_recording(save(tmp_path, signals), ch_names=("C3", "C4"), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0] * 10, noise(3, 200).ravel(), atol=0.01)
    np.testing.assert_array_equal(whole(recording)[:, 0], whole(recording)[:, 1])
    (said,) = recording.report.warnings
    changed = [text for text in (*physical, *digital) if "," in text or (text in digital and "." in text)]
    assert all(repr(text) in said for text in changed[:3]) and said.count("is read as") == min(len(changed), 3)


@pytest.mark.parametrize(
    ("at", "field"),
    [(184, b"768.0"), (236, b"4.0"), (236, b"4,"), (244, b"0,5"), (252, b"2.0"), (256 + 2 * 216, b"100.0   100,00  ")],
)
def test_every_number_of_the_header_may_have_them(tmp_path, at, field):
    digital = noise(4, 100), noise(4, 100, 1)
    data = bytearray(edf_bytes([Signal("C3", digital[0]), Signal("C4", digital[1])], seconds="0.5"))
    data[at : at + 4 if at == 252 else at + 8 * -(-len(field) // 8)] = field.ljust(4 if at == 252 else 8)
    path = tmp_path / "a.edf"
    path.write_bytes(data)
    recording = read_recording(path, ch_names=("C4",), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0] * 10, digital[1].ravel(), atol=0.01)
    assert any(repr(field.split()[0].decode()) in w and "is read as" in w for w in recording.report.warnings)


@pytest.mark.parametrize("field", ["1.234,5", "1,234.5", "3,2,7", "12 V", "", "1e400", "--5"])
@pytest.mark.parametrize("where", ["physical", "range"])
def test_limits_that_are_no_numbers_are_quoted(tmp_path, field, where):
    signals = [Signal("C3", noise(3, 200), **{where: ("-5", field)}), Signal("C4", noise(3, 200))]
    report = read_recording(save(tmp_path, signals), ch_names=("C3", "C4"), sfreq=200).report
    assert report.missing == ("C3",) and f"'-5' to {field!r}" in report.ignored["C3"]


def test_a_copy_has_the_numbers_that_other_programs_read(tmp_path, pyedflib):
    signals = [Signal("C3", noise(3, 200), physical=("-3276,8", "3276,7"), range=("-32768", "32767.0"))]
    path = save(tmp_path, signals, seconds="1,0")
    with pytest.raises(OSError, match="not EDF"):
        pyedflib.EdfReader(str(path))
    write_annotated_copy(path, tmp_path / "copy.edf", [Annotation(1.5, 0.0, "spike")])
    with pyedflib.EdfReader(str(tmp_path / "copy.edf")) as oracle:
        np.testing.assert_allclose(oracle.readSignal(0) * 10, noise(3, 200).ravel(), atol=0.01)


@pytest.mark.parametrize("date", ["02.03.20", "02/03/20", "02-03-20", "02:03:20", "02 03 20", "02'03'20"])
def test_a_date_may_have_other_signs_between_its_numbers(tmp_path, date):
    path = save(tmp_path, [Signal("C3", noise(2, 200))], recording="a study", date=date, time="22.14.05")
    assert start_datetime(read_layout(path)) == datetime.datetime(2020, 3, 2, 22, 14, 5)
