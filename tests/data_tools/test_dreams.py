"""The reader of DREAMS: its text files as the data set has them, byte for byte, and the data set itself."""

from pathlib import Path

import numpy as np
import pytest

from data_tools.dreams import convert, read_excerpt
from siamese_jax.config import DataConfig
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.prepare import prepare
from siamese_jax.recordings.shards import open_shards
from siamese_jax.recordings.windows import sleep_labels

FOLDER = Path(__file__).parents[2] / "../shared/data/dreams-spindles"
CODES = [5] * 4 + [3] * 4 + [2] * 4 + [1] * 4 + [0] * 4 + [4] * 4 + [-1] * 4  # 140 s, each stage 20 s


def signal(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 30, n).round(4)


def write(folder: Path, number: int, *, channel: str, samples: np.ndarray, codes=CODES, spindles=None) -> Path:
    """An excerpt as the data set writes it: values right-aligned in 10 characters, onset and duration with a tab."""
    name = f"excerpt{number}.txt"
    (folder / name).write_bytes((f"[{channel}]\n" + "".join(f"{x:10.4f}\n" for x in samples)).encode())
    if codes:
        (folder / f"Hypnogram_{name}").write_bytes(("[Hypnogram]\n" + "".join(f"{c}\n" for c in codes)).encode())
    for expert, rows in (spindles or {}).items():
        text = f"[vis{expert}_Spindles/{channel}]\n" + "".join(f"{a:10.4f}\t{b:10.4f}\n" for a, b in rows)
        (folder / f"Visual_scoring{expert}_{name}").write_bytes(text.encode())
    return folder / name


@pytest.mark.parametrize(("sfreq", "channel", "name"), [(100, "C3-A1", "C3-A1"), (200, "CZ-A1", "Cz-A1")])
def test_an_excerpt_comes_back_from_edf_with_stages_and_spindles(tmp_path, sfreq, channel, name):
    samples = signal(140 * sfreq + 99)  # some too many, as excerpt 6 has
    samples[[5, 9]] = 327.9933, -327.7744
    marked = {1: [(0.8, 0.72), (26.09, 1.28)], 2: [(0.725, 1.0), (7.15, 1.0), (14.825, 1.0)]}
    write(tmp_path, 6, channel=channel, samples=samples, spindles=marked)
    (said,) = convert(tmp_path, tmp_path / "edf")
    assert said == (
        f"excerpt6  {name} at {sfreq} Hz; 2.333 min; Spindle (expert 1) 2; Spindle (expert 2) 3; the last 99 samples"
        " left out: they fill no second that is scored; 2 samples clipped at +-328 uV; 3 spindles of expert 2 last 1 s,"
        " which nobody measured: onsets only"
    )
    recording = read_recording(tmp_path / "edf" / "excerpt6.edf", ch_names=(name,), sfreq=float(sfreq))
    assert recording.patient_code == "DREAMS-excerpt6"
    np.testing.assert_allclose(recording.read(0, 0, 140 * sfreq)[:, 0], samples[: 140 * sfreq], atol=328 / 65534 + 1e-3)
    spindles = [(a.onset_seconds, a.duration_seconds) for a in recording.annotations if a.text == "Spindle (expert 1)"]
    assert spindles == marked[1]
    onsets = [(a.onset_seconds, a.duration_seconds) for a in recording.annotations if a.text == "Spindle (expert 2)"]
    assert onsets == [(onset, 0.0) for onset, _ in marked[2]]
    labels = sleep_labels(recording.annotations, np.arange(0, 140, 20.0), window_seconds=20.0)
    assert labels.label.tolist() == [0, 1, 2, 3, 3, 4, 0]  # R&K 3 and 4 are N3
    assert labels.weight.tolist() == [1, 1, 1, 1, 1, 1, 0]  # movement is no stage


def test_what_is_missing_is_said_and_the_rest_is_read(tmp_path):
    write(tmp_path, 8, channel="CZ-A1", samples=signal(360_000), codes=None, spindles={1: [(3.0, 0.5)]})
    found = read_excerpt(tmp_path / "excerpt8.txt")
    assert (found.sfreq, [a.text for a in found.annotations]) == (200, ["Spindle (expert 1)"])
    assert found.notes == ("no hypnogram: no stages", "no spindles of expert 2")


def test_a_signal_that_ends_early_ends_its_last_stage(tmp_path):
    write(tmp_path, 1, channel="C3-A1", samples=signal(13_950), spindles={1: [(139.2, 0.9)]})
    found = read_excerpt(tmp_path / "excerpt1.txt")
    assert (found.sfreq, len(found.eeg_uv)) == (100, 13_900)
    assert max(a.onset_seconds + a.duration_seconds for a in found.annotations) == 139
    assert not [a for a in found.annotations if a.text.startswith("Spindle")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("excerpt1.txt", "   -0.9562\n", "excerpt1.txt: its first line must be a name in brackets, is '   -0.9562'"),
        ("excerpt1.txt", "[PULSE]\n1\n", "names no known derivation: .PULSE"),
        ("excerpt1.txt", "[C3-A1]\n1\n2\n", "2 samples are not 140 s at any of 50, 100, 200 Hz"),
        ("excerpt1.txt", "[C3-A1]\n1\nNaN\n", "all of them finite"),
        ("excerpt1.txt", "[C3-A1]\n1\nabc\n", "must hold 1 number"),
        ("Hypnogram_excerpt1.txt", "[Hypnogram]\n5\n7\n", "unknown stages 7"),
        ("Visual_scoring1_excerpt1.txt", "[vis1]\n 1.0\t0.5\n 2.0\n", "must hold 2 number"),
    ],
)
def test_a_damaged_file_is_skipped_by_name_and_the_others_are_read(tmp_path, name, content, message):
    write(tmp_path, 1, channel="C3-A1", samples=signal(14_000))
    write(tmp_path, 2, channel="CZ-A1", samples=signal(28_000))
    (tmp_path / name).write_text(content)
    (tmp_path / "licence.txt").write_text("CC")
    with pytest.raises(ValueError, match=message):
        read_excerpt(tmp_path / "excerpt1.txt")
    first, second, others = convert(tmp_path, tmp_path / "edf")
    assert first.startswith("skipped   ") and second.startswith("excerpt2  Cz-A1 at 200 Hz")
    assert others.endswith("licence.txt")
    assert [path.name for path in (tmp_path / "edf").iterdir()] == ["excerpt2.edf"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no excerptN.txt"):
        list(convert(tmp_path, tmp_path / "edf"))


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the DREAMS recordings are not here")
def test_the_real_data_set_becomes_shards(tmp_path):
    """Figures of the files themselves: stages in 5-s codes, spindles in lines; 50 Hz is refused with its reason."""
    said = list(convert(FOLDER, tmp_path / "edf"))
    assert [line.split()[0] for line in said] == [*(f"excerpt{n}" for n in (1, 2, 3, 4, 6, 8)), "not"]
    assert "C3-A1 at 50 Hz" in said[2] and "140 samples left out" in said[4] and "no spindles of expert 2" in said[5]
    for line, first, second in zip(said, (52, 60, 5, 44, 72, 48), (115, 52, 44, 25, 87, None), strict=False):
        assert f"Spindle (expert 1) {first};" in line
        assert second is None or f"Spindle (expert 2) {second};" in line
    data = DataConfig(ch_names=("C3", "Cz"), window_seconds=5.0)
    report = prepare(tmp_path / "edf", tmp_path / "shards", data, hop_seconds=5.0, seed=0)
    (skipped,) = report.skipped
    assert skipped.name == "excerpt3.edf" and "50 Hz is too slow" in skipped.reason
    shards = [shard for split in ("train", "validation", "test") for shard in open_shards(tmp_path / "shards" / split)]
    counts = sum(np.bincount(s.labels["sleep"][s.weights["sleep"] > 0], minlength=5) for s in shards)
    # wake, S1, S2, S3 and S4, REM of excerpts 1, 2, 4, 6 and 8
    assert counts.tolist() == [56 + 4 + 108 + 12 + 76, 12 + 20 + 80 + 12 + 24, 220 + 200 + 144 + 220 + 260, 352, 0]
