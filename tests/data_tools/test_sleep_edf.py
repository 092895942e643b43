"""The reader of Sleep-EDF Expanded, on nights with the signals, names and quirks of its files, byte for byte."""

import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest

from data_tools.sleep_edf import DEFAULT_DATA, SleepEdf, main
from siamese_jax.cli.console import OK, SOME_FAILED
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import prepare
from siamese_jax.shards.schema import open_shard
from tests.recordings.edf_bytes import Signal, edf_bytes, stamp

HEADER = {"patient": "X F X Female_33yr", "recording": "Startdate 24-APR-1989 X X X", "date": "24.04.89"}
NIGHT = [
    *((0, 90, "Sleep stage W"), (90, 30, "Sleep stage 1"), (120, 30, "Sleep stage 2"), (150, 30, "Sleep stage 3")),
    *((180, 30, "Sleep stage 4"), (210, 30, "Sleep stage R"), (240, 60, "Movement time"), (300, 30, "Sleep stage ?")),
    *((330, 30, "Sleep stage 2"), (360, 120, "Sleep stage W"), (480, 3600, "Sleep stage ?")),
]
"""The last one is longer than the signal, as in the data set."""


def psg(path: Path, *, epochs: int = 16, seed: int | None = None, n_fast: int = 3000, **header: str) -> Path:
    """Records of 30 s: three signals at 100 Hz, four at 1 Hz, as the cassette study has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()) if seed is None else seed)
    fast = [
        Signal(label, rng.integers(-300, 300, (epochs, n_fast)))
        for label in ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
    ]
    slow = [("Resp oro-nasal", ""), ("EMG submental", "uV"), ("Temp rectal", "DegC"), ("Event marker", "")]
    others = [Signal(label, rng.integers(-300, 300, (epochs, 30)), unit) for label, unit in slow]
    path.write_bytes(edf_bytes([*fast, *others], **{"seconds": "30", "time": "16.13.00"} | HEADER | header))
    return path


def hypnogram(path: Path, stages=NIGHT, **header: str) -> Path:
    """One record of no duration that holds annotations alone."""
    texts = [f"+{onset}\x15{duration}\x14{text}\x14\x00".encode() for onset, duration, text in stages]
    given = {"seconds": "0", "reserved": "EDF+C", "time": "16.13.00"} | HEADER | header
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(edf_bytes([], lists=[stamp("+0", *texts)], **given))
    return path


def cassette(folder: Path, *, subjects: int, nights: tuple[int, ...] = (1, 2)) -> Path:
    for subject in range(subjects):
        for night in nights:
            stem = folder / "sleep-cassette" / f"SC4{subject:02d}{night}E"
            psg(Path(f"{stem}0-PSG.edf"))
            hypnogram(Path(f"{stem}{'CHJ'[subject]}-Hypnogram.edf"))
    return folder


def make(source: SleepEdf, out: Path):
    report = prepare(source, out, DEFAULT_DATA, hop_seconds=30.0, seed=0)
    return report, {shard.patients[0]: shard for shard in map(open_shard, sorted(out.rglob("*.h5")))}


def test_stages_of_rechtschaffen_and_kales_become_those_of_the_aasm(tmp_path):
    cassette(tmp_path / "in", subjects=1, nights=(1,))
    report, shards = make(SleepEdf(tmp_path / "in"), tmp_path / "out")
    (shard,) = shards.values()
    labels, weights = shard.labels["sleep"].tolist(), shard.weights["sleep"].tolist()
    assert labels[:8] == [0, 0, 0, 1, 2, 3, 3, 4] and weights[:8] == [1] * 8
    assert weights[8:12] == [0, 0, 0, 1] and labels[11] == 2  # twice movement, once unscored
    assert weights[12:] == [1] * 4 and labels[12:] == [0] * 4
    assert shard.info.ch_names == ("FPz-Cz", "Pz-Oz") and shard.recordings["present"].all()
    assert report.used[0].patient == "SC400" and not check(tmp_path / "out").errors


def test_samples_are_those_of_the_file_in_microvolts(tmp_path):
    path = psg(tmp_path / "SC4001E0-PSG.edf", seed=7)
    hypnogram(tmp_path / "SC4001EC-Hypnogram.edf")
    opened = pickle.loads(pickle.dumps(SleepEdf(tmp_path))).open(path.name, DEFAULT_DATA)  # noqa: S301
    first = np.random.default_rng(7).integers(-300, 300, (16, 3000))
    np.testing.assert_allclose(opened.recording.read(0, 0, 48_000)[:, 0], first.ravel() * 0.1, atol=1e-4)


def test_both_nights_of_a_subject_are_in_one_split_and_the_studies_count_apart(tmp_path):
    cassette(tmp_path / "in", subjects=3)
    psg(tmp_path / "in" / "sleep-telemetry" / "ST7011J0-PSG.edf")
    hypnogram(tmp_path / "in" / "sleep-telemetry" / "ST7011JP-Hypnogram.edf")
    report, shards = make(SleepEdf(tmp_path / "in"), tmp_path / "out")
    assert sorted(shards) == ["SC400", "SC401", "SC402", "ST701"]
    assert [len(shards[f"SC40{k}"].recordings["name"]) for k in range(3)] == [2, 2, 2]
    assert not report.skipped and not check(tmp_path / "out").errors


@pytest.mark.parametrize(("minutes", "first", "last"), [(0.5, 60, 360), (1.0, 30, 390), (0.0, 90, 330)])
def test_windows_lie_no_further_from_sleep_than_told(tmp_path, minutes, first, last):
    """Sleep lasts from 90 to 360 s."""
    cassette(tmp_path / "in", subjects=1, nights=(1,))
    report, shards = make(SleepEdf(tmp_path / "in", wake_minutes=minutes), tmp_path / "out")
    assert shards["SC400"].onset_seconds.tolist() == list(np.arange(first, last + 1, 30.0))
    assert f"windows further than {minutes:g} min from sleep are left out" in report.used[0].notes


def test_the_limit_is_one_to_the_sample_and_a_new_scoring_makes_new_shards(tmp_path):
    source = SleepEdf(cassette(tmp_path, subjects=1, nights=(1,)), wake_minutes=1.0)
    grid = source.grid(source.open(source.names()[0], DEFAULT_DATA), window=3000, hop=1)
    assert (grid.start.min(), grid.start.max() + 3000) == (3000, 42_000)  # sleep is from 90 to 360 s
    assert [path.name for path in source.files(source.names()[0])] == ["SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf"]


def test_all_wake_is_kept_if_wanted_or_if_nobody_sleeps(tmp_path):
    cassette(tmp_path / "in", subjects=1, nights=(1,))
    _, shards = make(SleepEdf(tmp_path / "in", wake_minutes=np.inf), tmp_path / "out")
    assert len(shards["SC400"]) == 16
    hypnogram(tmp_path / "in/sleep-cassette/SC4001EC-Hypnogram.edf", [(0, 480, "Sleep stage W")])
    report, shards = make(SleepEdf(tmp_path / "in", wake_minutes=0.0), tmp_path / "awake")
    assert len(shards["SC400"]) == 16
    assert "no sleep in the hypnogram: all windows are kept" in report.used[0].notes
    with pytest.raises(ValueError, match="wake_minutes must be 0 or more, given -1"):
        SleepEdf(tmp_path, wake_minutes=-1)


def test_a_hypnogram_that_begins_later_is_moved_by_the_clocks(tmp_path):
    psg(tmp_path / "SC4001E0-PSG.edf")
    hypnogram(tmp_path / "SC4001EC-Hypnogram.edf", time="16.14.00")
    opened = SleepEdf(tmp_path).open("SC4001E0-PSG.edf", DEFAULT_DATA)
    assert opened.annotations[0][:3] == (60.0, 90.0, "Sleep stage W")
    assert "its hypnogram begins +60 s from it: moved" in opened.notes
    hypnogram(tmp_path / "SC4001EC-Hypnogram.edf", recording="Startdate 25-APR-1989 X X X", date="25.04.89")
    with pytest.raises(ValueError, match="SC4001EC-Hypnogram.edf is of another time"):
        SleepEdf(tmp_path).open("SC4001E0-PSG.edf", DEFAULT_DATA)


def test_files_without_their_partner_are_named(tmp_path, capsys):
    root = cassette(tmp_path / "in", subjects=2, nights=(1,))
    psg(root / "sleep-cassette" / "SC4022E0-PSG.edf")
    hypnogram(root / "sleep-telemetry" / "ST7011JP-Hypnogram.edf")
    for name in ("sc4002e0.rec", "._sc4002e0.rec", "._ST7011JP-Hypnogram.edf", "._SC4022E0-PSG.edf"):  # three of macOS
        (root / name).write_bytes(b"0")
    assert main(root, tmp_path / "out") == SOME_FAILED
    said = capsys.readouterr().out
    assert "skipped sleep-cassette/SC4022E0-PSG.edf: no hypnogram beside it (SC4022E?-Hypnogram.edf)" in said
    assert "no PSG beside ST7011JP-Hypnogram.edf: not used" in said
    assert "the expanded data set has the same eight nights: sc4002e0.rec" in said and "._" not in said


def test_names_in_capitals_and_a_second_scorer_are_read(tmp_path):
    psg(tmp_path / "sc4001e0-psg.EDF")
    hypnogram(tmp_path / "SC4001EC-HYPNOGRAM.edf")
    hypnogram(tmp_path / "SC4001EH-Hypnogram.edf", [(0, 480, "Sleep stage W")])
    opened = SleepEdf(tmp_path).open("sc4001e0-psg.EDF", DEFAULT_DATA)
    assert opened.patient == "SC400" and len(opened.annotations) == len(NIGHT)
    assert "more than one hypnogram: the first by name is used" in opened.notes


def _cut(path: Path, n: int) -> None:
    path.write_bytes(path.read_bytes()[:n])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: _cut(root / "SC4011E0-PSG.edf", 300), "cut inside its header"),
        (lambda root: _cut(root / "SC4011EC-Hypnogram.edf", 0), "SC4011EC-Hypnogram.edf is empty"),
        (lambda root: hypnogram(root / "SC4011EC-Hypnogram.edf", [(0, 30, "Lights off")]), "holds no sleep stages"),
        (lambda root: psg(root / "SC4011E0-PSG.edf", n_fast=1500), "50 Hz is too slow"),
        (lambda root: psg(root / "SC4011E0-PSG.edf", epochs=1, seconds="20"), "as long as a window of 30 s"),
    ],
)
def test_a_damaged_night_is_skipped_by_name_and_the_others_are_read(tmp_path, damage, message):
    for subject in range(2):
        psg(tmp_path / "in" / f"SC4{subject:02d}1E0-PSG.edf")
        hypnogram(tmp_path / "in" / f"SC4{subject:02d}1EC-Hypnogram.edf")
    damage(tmp_path / "in")
    report, shards = make(SleepEdf(tmp_path / "in"), tmp_path / "out")
    (skipped,) = report.skipped
    assert skipped.name == "SC4011E0-PSG.edf" and message in skipped.reason and list(shards) == ["SC400"]


def test_a_cut_night_is_read_as_far_as_it_goes_and_other_channels_can_be_had(tmp_path, capsys):
    path = psg(tmp_path / "in" / "SC4001E0-PSG.edf")
    hypnogram(tmp_path / "in" / "SC4001EC-Hypnogram.edf")
    _cut(path, path.stat().st_size - 3 * 2 * (3 * 3000 + 4 * 30) - 7)
    (report, shards) = make(SleepEdf(tmp_path / "in"), tmp_path / "out")
    assert len(shards["SC400"].labels["sleep"]) == 12 and "cut short: 12 of 16 records" in report.used[0].notes
    with pytest.raises(ValueError, match="holds no SC4ssNEx-PSG.edf"):
        SleepEdf(tmp_path / "out").names()


def test_a_folder_of_whole_pairs_is_made_without_complaint(tmp_path, capsys):
    assert main(cassette(tmp_path / "in", subjects=3), tmp_path / "out") == OK
    assert "6 files used, 0 skipped" in capsys.readouterr().out
