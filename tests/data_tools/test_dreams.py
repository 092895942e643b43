"""The reader of DREAMS: its text files as the data set has them, byte for byte, and the data set itself."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from data_tools.dreams import DEFAULT_DATA, Dreams, main, read_excerpt
from siamese_jax.cli.console import SOME_FAILED
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import prepare
from siamese_jax.config.experiment import DataConfig
from siamese_jax.shards.schema import open_shard, open_shards
from tests.data_tools.excerpts import signal, write_excerpt

FOLDER = Path(__file__).parents[2] / "../shared/data/dreams-spindles"
DATA = DataConfig(ch_names=("C3", "Cz"), sfreq=200.0, window_seconds=20.0)
MARKED = {1: [(0.8, 0.72), (26.09, 1.28)], 2: [(47.125, 1.0), (67.15, 1.0), (74.825, 1.0)]}


def shards_of(source: Dreams, out: Path, data: DataConfig = DATA):
    report = prepare(source, out, data, hop_seconds=data.window_seconds, seed=0)
    shards = {shard.patients[0]: shard for shard in map(open_shard, sorted(out.rglob("*.h5")))}
    return report, shards


def spindles(shard) -> list[tuple[float, float]]:
    marks = shard.marks["spindle"]
    return list(zip(marks.onset_seconds.tolist(), marks.duration_seconds.tolist(), strict=True))


@pytest.mark.parametrize(("sfreq", "channel", "column"), [(100, "C3-A1", 0), (200, "CZ-A1", 1)])
def test_an_excerpt_becomes_a_shard_with_stages_and_spindles(tmp_path, sfreq, channel, column):
    samples = signal(140 * sfreq + 99)  # some too many, as excerpt 6 has
    samples[[5, 9]] = 327.9933, -327.7744
    write_excerpt(tmp_path / "in", 6, channel=channel, samples=samples, spindles=MARKED)
    report, shards = shards_of(Dreams(tmp_path / "in"), tmp_path / "out")
    shard = shards["DREAMS-6"]
    assert not check(tmp_path / "out").errors
    assert shard.recordings["present"].tolist() == [[column == 0, column == 1]]
    # R&K 3 and 4 are N3, and movement is no stage; expert 1's spindles have their middles in the windows 0 and 1.
    assert shard.labels["sleep"].tolist() == [0, 1, 2, 3, 3, 4, 0]
    assert shard.weights["sleep"].tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert shard.labels["spindle"].tolist() == [1, 1, 0, 0, 0, 0, 0] and shard.weights["spindle"].all()
    assert spindles(shard) == MARKED[1]
    (used,) = report.used
    assert used.notes[:2] == (
        f"the last {99 / sfreq:g} s of signal left out: they fill no second that is scored",
        "clipped at +-328 uV in places",
    )
    assert any(f"referenced to the ear: {DATA.ch_names[column]} from" in note for note in used.notes)


def test_samples_are_microvolts_at_the_rate_that_fits_the_hypnogram(tmp_path):
    samples = signal(140 * 200)
    write_excerpt(tmp_path, 6, channel="CZ-A1", samples=samples)
    opened = pickle.loads(pickle.dumps(Dreams(tmp_path))).open("excerpt6.txt", DATA)  # noqa: S301
    got = opened.recording.read(0, 0, 140 * 200)
    np.testing.assert_array_equal(got[:, 1], samples.astype(np.float32))
    assert [path.name for path in Dreams(tmp_path).files("excerpt6.txt")] == ["excerpt6.txt", "Hypnogram_excerpt6.txt"]
    assert not got[:, 0].any() and opened.recording.present.tolist() == [False, True]


def test_expert_2_counts_by_onsets_and_where_he_did_not_look_nothing_is_free_of_spindles(tmp_path):
    write_excerpt(tmp_path / "in", 1, channel="C3-A1", samples=signal(14_000), spindles=MARKED)
    write_excerpt(tmp_path / "in", 2, channel="CZ-A1", samples=signal(28_000), spindles={1: MARKED[1]})
    report, shards = shards_of(Dreams(tmp_path / "in", expert=2), tmp_path / "out")
    assert shards["DREAMS-1"].labels["spindle"].tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert spindles(shards["DREAMS-1"]) == [(onset, 0.0) for onset, _ in MARKED[2]]
    assert not shards["DREAMS-2"].weights["spindle"].any() and shards["DREAMS-2"].weights["sleep"].sum() == 6
    notes = {file.name: file.notes for file in report.used}
    assert "spindles of expert 2 last 1 s each, which nobody measured: onsets only" in notes["excerpt1.txt"]
    assert "no spindles of expert 2" in notes["excerpt2.txt"]


def test_an_expert_who_marked_none_has_looked(tmp_path):
    """The header alone: every window is then free of spindles, and not unlabelled as without the file."""
    write_excerpt(tmp_path / "in", 1, channel="C3-A1", samples=signal(14_000))
    (tmp_path / "in" / "Visual_scoring1_excerpt1.txt").write_text("[vis1_Spindles/C3-A1]\n")
    opened = Dreams(tmp_path / "in").open("excerpt1.txt", DATA)
    assert opened.searched["spindle"] and not any("Spindle" in a.text for a in opened.annotations)
    (tmp_path / "in" / "Visual_scoring1_excerpt1.txt").unlink()
    assert not Dreams(tmp_path / "in").open("excerpt1.txt", DATA).searched["spindle"]


def test_the_excerpts_named_are_tested_and_the_others_train(tmp_path):
    for number in (1, 2, 10):
        write_excerpt(tmp_path, number, channel="C3-A1", samples=signal(14_000 + number))
    source = Dreams(tmp_path, test=(10,))
    assert source.names() == ["excerpt1.txt", "excerpt2.txt", "excerpt10.txt"]
    assert [source.open(name, DATA).split for name in source.names()] == ["train", "train", "test"]
    with pytest.raises(ValueError, match="holds no excerpt 3 to test with"):
        Dreams(tmp_path, test=(3,)).names()


def test_what_is_missing_is_said_and_the_rest_is_read(tmp_path):
    write_excerpt(tmp_path, 8, channel="CZ-A1", samples=signal(360_000), codes=None, spindles={1: [(3.0, 0.5)]})
    found = read_excerpt(tmp_path / "excerpt8.txt")
    assert (found.sfreq, [a.text for a in found.annotations]) == (200, ["Spindle (expert 1)"])
    assert found.notes == ("no hypnogram: no stages", "no spindles of expert 2")


def test_a_signal_that_ends_early_ends_its_last_stage(tmp_path):
    write_excerpt(tmp_path, 1, channel="C3-A1", samples=signal(13_950), spindles={1: [(139.2, 0.9)]})
    found = read_excerpt(tmp_path / "excerpt1.txt")
    assert (found.sfreq, len(found.eeg_uv)) == (100, 13_900)
    assert max(a.onset_seconds + a.duration_seconds for a in found.annotations) == 139
    assert not [a for a in found.annotations if a.text.startswith("Spindle")]
    assert found.notes[:2] == (
        "the last 0.5 s of signal left out: they fill no second that is scored",
        "the signal ends 0.5 s before 140 s: later stages are left out",
    )


@pytest.mark.parametrize("sfreq", [50, 100, 200])
def test_signal_and_hypnogram_may_differ_by_some_seconds_and_no_more(tmp_path, sfreq):
    whole = 140 * sfreq
    for number, n in enumerate((whole + 2 * sfreq, whole + 5 * sfreq, whole - 4 * sfreq), 1):
        found = read_excerpt(write_excerpt(tmp_path, number, channel="C3-A1", samples=signal(n)))
        kept = min(n, whole)
        assert found.sfreq == sfreq and found.notes[0].startswith(("the last ", "the signal ends 4 s before 140 s"))
        np.testing.assert_array_equal(found.eeg_uv, signal(n)[:kept])
        assert max(a.onset_seconds + a.duration_seconds for a in found.annotations) == kept / sfreq
    for n in (whole + 7 * sfreq, whole - 7 * sfreq):
        with pytest.raises(ValueError, match=rf"excerpt9\.txt: {n} samples are not 140 s at any of 50, 100, 200 Hz"):
            read_excerpt(write_excerpt(tmp_path, 9, channel="C3-A1", samples=signal(n)))


def test_lines_may_end_as_on_windows_after_a_byte_order_mark(tmp_path):
    path = write_excerpt(tmp_path, 1, channel="C3-A1", samples=signal(14_000), spindles=MARKED, newline="\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = read_excerpt(path)
    assert (found.ch_name, len(found.eeg_uv), len(found.annotations)) == ("C3-A1", 14_000, 7 + 5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("excerpt1.txt", "   -0.9562\n", "excerpt1.txt: its first line must be a name in brackets, is '   -0.9562'"),
        ("excerpt1.txt", "", "its first line must be a name in brackets, is ''"),
        ("excerpt1.txt", "[PULSE]\n1\n", "names no known derivation: .PULSE"),
        ("excerpt1.txt", "[O1-A1]\n" + "1\n2\n" * 7000, "none of the electrodes wanted"),
        ("excerpt1.txt", "[C3-A1]\n1\n2\n", "2 samples are not 140 s at any of 50, 100, 200 Hz"),
        ("excerpt1.txt", "[C3-A1]\n1\nNaN\n", "all of them finite"),
        ("excerpt1.txt", "[C3-A1]\n1\nabc\n", "must hold 1 number"),
        ("excerpt1.txt", "[C3-A1]\n", "excerpt1.txt must hold numbers"),
        ("Hypnogram_excerpt1.txt", "[Hypnogram]\n5\n7\n", "unknown stages 7"),
        ("Hypnogram_excerpt1.txt", "[Hypnogram]\n", "Hypnogram_excerpt1.txt must hold numbers"),
        ("Visual_scoring1_excerpt1.txt", "[vis1]\n 1.0\t0.5\n 2.0\n", "must hold 2 number"),
    ],
)
def test_a_damaged_file_is_skipped_by_name_and_the_others_are_read(tmp_path, name, content, message):
    write_excerpt(tmp_path / "in", 1, channel="C3-A1", samples=signal(14_000))
    write_excerpt(tmp_path / "in", 2, channel="CZ-A1", samples=signal(28_000))
    (tmp_path / "in" / name).write_text(content)
    (tmp_path / "in" / "licence.txt").write_text("CC")
    (tmp_path / "in" / "._excerpt1.txt").write_bytes(b"\x00\x05\x16\x07")  # of macOS: not worth a word
    with pytest.raises(ValueError, match=message):
        Dreams(tmp_path / "in").open("excerpt1.txt", DATA)
    report, shards = shards_of(Dreams(tmp_path / "in"), tmp_path / "out")
    assert [file.name for file in report.skipped] == ["excerpt1.txt"] and list(shards) == ["DREAMS-2"]
    assert "not used: licence.txt" in report.notes


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no excerptN.txt"):
        Dreams(tmp_path).names()
    with pytest.raises(ValueError, match="no such folder"):
        Dreams(tmp_path / "nowhere").names()


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the DREAMS recordings are not here")
def test_the_real_data_set_becomes_shards(tmp_path, capsys):
    """Figures of the files themselves: stages in 5-s codes, spindles in lines; 50 Hz is refused with its reason."""
    data = DataConfig(ch_names=DEFAULT_DATA.ch_names, window_seconds=5.0)
    report, shards = shards_of(Dreams(FOLDER), tmp_path / "shards", data)
    (skipped,) = report.skipped
    assert skipped.name == "excerpt3.txt" and "50 Hz is too slow" in skipped.reason
    counts = sum(np.bincount(s.labels["sleep"][s.weights["sleep"] > 0], minlength=5) for s in shards.values())
    # wake, S1, S2, S3 and S4, REM of excerpts 1, 2, 4, 6 and 8
    assert counts.tolist() == [56 + 4 + 108 + 12 + 76, 12 + 20 + 80 + 12 + 24, 220 + 200 + 144 + 220 + 260, 352, 0]
    assert {name: len(spindles(shard)) for name, shard in shards.items()} == {
        "DREAMS-1": 52,
        "DREAMS-2": 60,
        "DREAMS-4": 44,
        "DREAMS-6": 72,
        "DREAMS-8": 48,
    }
    assert not check(tmp_path / "shards").errors
    assert main(FOLDER, tmp_path / "default", test=(8,)) == SOME_FAILED
    assert "skipped excerpt3.txt: " in capsys.readouterr().out
    assert [s.patients for s in open_shards(tmp_path / "default" / "test")] == [("DREAMS-8",)]
