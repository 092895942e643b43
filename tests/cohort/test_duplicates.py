"""The same signal is known again however it was cut, shifted or renamed; and nothing else is taken for it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from siamese_jax.cohort import duplicates
from siamese_jax.cohort.duplicates import (
    MATCHES,
    RUNS,
    WORD_SECONDS,
    SharedSignal,
    cohort_parts,
    fingerprints,
    one_in,
    shared_signals,
    shared_windows,
    window_digests,
)
from siamese_jax.shards.quantise import LabelledRecording
from siamese_jax.shards.schema import Shard, open_shard
from siamese_jax.shards.write import write_shard
from tests.recordings.in_memory import CH_NAMES, SFREQ, info_of, labelled, recording_of

SECONDS = 90
N = int(SECONDS * SFREQ)


def eeg(seed: int, n_times: int = N, n_chans: int = len(CH_NAMES)) -> np.ndarray:
    """A slow background of some 20 uV below an amplifier's noise of 1 uV."""
    rng = np.random.default_rng(seed)
    slow = lfilter([1], [1, -0.95], rng.normal(0, 6, (n_times, n_chans)), axis=0)
    return (slow + rng.normal(0, 1, (n_times, n_chans))).astype(np.float32)


def shard(folder: Path, name: str, *recordings: LabelledRecording) -> Shard:
    write_shard(folder / f"{name}.h5", recordings, info=info_of(recordings[0].recording))
    return open_shard(folder / f"{name}.h5")


def shards_of(folder: Path, *signals: np.ndarray | Sequence[np.ndarray], sfreq: float = SFREQ) -> list[Shard]:
    """A shard for each signal, or for each list of gap-free pieces of one."""
    found = []
    for i, signal in enumerate(signals):
        pieces = [signal] if isinstance(signal, np.ndarray) else list(signal)
        ch_names = [f"C{k}" for k in range(pieces[0].shape[1])]
        recording = recording_of(pieces, sfreq=sfreq, ch_names=ch_names)
        found.append(shard(folder, str(i), labelled(recording, name=f"{i}.edf", patient=f"P{i}")))
    return found


def table_of(shards: Sequence[Shard]) -> np.ndarray:
    """The fingerprints of whole segments at once."""
    parts, found = cohort_parts(shards), []
    for number, part in enumerate(parts):
        block = part.shard.read_integers(part.start, part.start + part.length)
        present = part.shard.recordings["present"][part.row]
        sfreq = part.shard.info.sfreq
        words = fingerprints(block, present, n_starts=part.length, sfreq=sfreq, one_in=one_in(parts))
        words["segment"] = number
        found.append(words)
    return np.concatenate(found)


def shared(shards: Sequence[Shard]) -> list[SharedSignal]:
    return shared_signals(cohort_parts(shards), table_of(shards))


# --- what is found


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_is_found_however_it_was_cut_shifted_permuted_or_scaled(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    original = eeg(100 + seed)
    start = int(rng.integers(0, N // 2))
    stop = int(rng.integers(start + N // 4, N + 1))
    copy = original[start:stop, rng.permutation(len(CH_NAMES))]
    copy = copy * rng.choice([1, 1, -1, 0.7, 2.3]) + rng.uniform(-500, 500, len(CH_NAMES))  # uV
    (found,) = shared(shards_of(tmp_path, eeg(1), original, eeg(2), copy.astype(np.float32)))
    assert (found.first, found.second) == (1, 3)
    assert found.seconds == pytest.approx((stop - start) / SFREQ, rel=0.15)


@pytest.mark.parametrize("kept", [1, 2])
def test_a_copy_of_a_few_electrodes_among_others_is_found(tmp_path: Path, kept: int) -> None:
    copy = eeg(9)
    copy[:, 4 - kept :] = eeg(3)[:, :kept]
    (found,) = shared(shards_of(tmp_path, eeg(3), copy))
    assert (found.first, found.second) == (0, 1)


def test_channels_that_a_copy_lacks_and_a_changed_rounding_do_not_hide_it(tmp_path: Path) -> None:
    """The median decides how samples are rounded: a third of a step more, and most integers are other ones."""
    original = eeg(4)
    copy = original[1000:].copy() + np.float32(0.0333)
    one = recording_of([original])
    other = recording_of([copy * [1, 0, 1, 0]], present=[True, False, True, False])
    shards = [shard(tmp_path, "a", labelled(one)), shard(tmp_path, "b", labelled(other))]
    steps = [np.diff(s.read_integers(0, 9000)[:, 0].astype(int)) for s in shards]
    assert 0.1 < np.mean(steps[0][1000:] != steps[1]) < 0.9
    (found,) = shared(shards)
    assert found.seconds == pytest.approx(80, rel=0.1)


def test_gaps_in_one_copy_only_do_not_hide_it(tmp_path: Path) -> None:
    original = eeg(5)
    pieces = [original[:2500], original[4000:8000]]
    (found,) = shared(shards_of(tmp_path, original, pieces))
    assert found.seconds == pytest.approx(65, rel=0.15)


def test_one_signal_under_three_names_gives_two_pairs_at_least(tmp_path: Path) -> None:
    found = shared(shards_of(tmp_path, eeg(6), eeg(7), eeg(6)[500:], eeg(6)[:8000]))
    assert {recording for pair in found for recording in pair[:2]} == {0, 2, 3}


def test_a_stretch_within_otherwise_different_recordings_is_found_and_measured(tmp_path: Path) -> None:
    copy = eeg(11)
    copy[2000:5000] = eeg(10)[4000:7000]
    (found,) = shared(shards_of(tmp_path, eeg(10), copy))
    assert found.seconds == pytest.approx(30, rel=0.2)


def test_a_few_seconds_are_not_enough(tmp_path: Path) -> None:
    copy = eeg(11)
    copy[2000:2800] = eeg(10)[4000:4800]
    assert shared(shards_of(tmp_path, eeg(10), copy)) == []


def heart(seed: int, *, rate: float, n_times: int = 5000, sfreq: float = 500.0) -> np.ndarray:
    """Ten seconds of 12 leads: a beat of Gaussian waves, an amplifier's noise of 5 uV."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_times) / sfreq
    beats = np.cumsum(60 / rate * rng.normal(1, 0.03, 40))
    lag = t[:, None] - beats
    wave = sum(
        a * np.exp(-0.5 * ((lag - at) / w) ** 2)
        for a, at, w in [(1000, 0, 0.01), (150, -0.16, 0.02), (250, 0.25, 0.05)]
    )
    leads = wave.sum(axis=1)[:, None] * rng.uniform(-1, 1, 12)
    return (leads + rng.normal(0, 5, (n_times, 12))).astype(np.float32)


def test_ten_seconds_of_an_electrocardiogram_are_enough(tmp_path: Path) -> None:
    signals = [heart(seed, rate=70) for seed in range(6)]
    signals += [signals[2][500:] + 40, np.rint(2 * signals[4]) / 2]  # cut and shifted; stored in steps of 0.5 uV
    found = shared(shards_of(tmp_path, *signals, sfreq=500.0))
    assert [(pair.first, pair.second) for pair in found] == [(2, 6), (4, 7)]


# --- what is not


def hum(n_times: int, *, sfreq: float, phase: float, hz: float = 50.0, uv: float = 60.0) -> np.ndarray:
    return uv * np.sin(2 * np.pi * hz * np.arange(n_times) / sfreq + phase)


def wobbling(rng: np.random.Generator, n_times: int, *, sfreq: float, hz: float, by: float, uv: float) -> np.ndarray:
    """A sine whose phase wanders by so many radians a sample."""
    return uv * np.sin(np.cumsum(2 * np.pi * hz / sfreq + rng.normal(0, by, n_times)))


def square(n_times: int, *, sfreq: float, phase: float) -> np.ndarray:
    return np.where(hum(n_times, sfreq=sfreq, phase=phase, hz=1.0) > 0, 50.0, -50.0)


LIKE_EACH_OTHER: dict[str, Callable[[np.random.Generator, int, float], np.ndarray]] = {
    "nothing but mains": lambda rng, n, fs: hum(n, sfreq=fs, phase=0.3),
    "mains of another phase": lambda rng, n, fs: hum(n, sfreq=fs, phase=rng.uniform(0, 6)),
    "mains and an amplifier's noise": lambda rng, n, fs: hum(n, sfreq=fs, phase=0.3) + rng.normal(0, 0.3, n),
    "mains whose frequency drifts": lambda rng, n, fs: wobbling(rng, n, sfreq=fs, hz=50, by=1e-3, uv=80),
    "an amplifier's noise": lambda rng, n, fs: rng.normal(0, 1, n),
    "noise within the rounding": lambda rng, n, fs: rng.normal(0, 0.1, n),
    "calibration": lambda rng, n, fs: square(n, sfreq=fs, phase=0.1),
    "calibration with noise": lambda rng, n, fs: square(n, sfreq=fs, phase=0.1) + rng.normal(0, 0.3, n),
    "nothing": lambda rng, n, fs: np.zeros(n),
    "a clipped rail": lambda rng, n, fs: np.clip(rng.normal(3200, 200, n), -3200, 3200),
    "alpha waves alone": lambda rng, n, fs: wobbling(rng, n, sfreq=fs, hz=10, by=0.02, uv=30),
    "alpha waves in step": lambda rng, n, fs: hum(n, sfreq=fs, phase=0.0, hz=10.0, uv=30.0),
}


@pytest.mark.parametrize("kind", LIKE_EACH_OTHER)
@pytest.mark.parametrize("sfreq", [100.0, 256.0])
def test_recordings_that_only_look_alike_are_not_called_the_same(tmp_path: Path, kind: str, sfreq: float) -> None:
    n = int(40 * sfreq)
    signals = []
    for i in range(6):
        rng = np.random.default_rng(i)
        signals.append(np.stack([LIKE_EACH_OTHER[kind](rng, n, sfreq) for _ in range(3)], axis=1).astype(np.float32))
    assert shared(shards_of(tmp_path, *signals, sfreq=sfreq)) == []


def test_the_same_calibration_before_different_nights_is_not_the_same_signal(tmp_path: Path) -> None:
    signals = [eeg(seed) for seed in range(4)]
    for signal in signals:
        signal[:3000] = square(3000, sfreq=SFREQ, phase=0.1)[:, None]
    assert shared(shards_of(tmp_path, *signals)) == []


def test_turning_points_suggest_a_pair_and_only_samples_confirm_it(tmp_path: Path) -> None:
    """A signal bent by a curve that rises everywhere turns where it turned before; yet it is another signal."""
    original = eeg(8)
    bent = np.sign(original) * np.abs(original) ** 1.5
    shards = shards_of(tmp_path, original, bent.astype(np.float32))
    first, _ = duplicates._matches(table_of(shards), np.array([0, 1]))
    assert len(first) > 20 * MATCHES
    assert shared(shards) == []


def test_words_at_one_distance_in_time_make_a_candidate() -> None:
    first, second = np.zeros(9, duplicates.FINGERPRINT), np.zeros(9, duplicates.FINGERPRINT)
    first["position"], second["segment"] = [50, 10, 30, 20, 40, 5, 6, 7, 8], [1, 1, 1, 1, 1, 1, 1, 2, 2]
    second["position"] = first["position"] + [7, 7, 7, -9, 8, 100, 200, 7, 7]
    ((found, there),) = duplicates._candidates(first, second)
    assert found["position"].tolist() == [10, 30, 50]
    assert there["position"].tolist() == [17, 37, 57]


def test_a_few_words_measure_a_stretch_without_bias_and_never_more_than_there_is(tmp_path: Path) -> None:
    sides = cohort_parts(shards_of(tmp_path, eeg(0), eeg(1)))
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        first, second = np.zeros(5, duplicates.FINGERPRINT), np.zeros(5, duplicates.FINGERPRINT)
        first["position"] = np.sort(rng.integers(3000, 6000, 5))
        second["position"] = first["position"] + 500
        found.append(duplicates._span((sides[0], sides[1]), first, second))
    assert np.mean(found) == pytest.approx(30, rel=0.05)
    first["position"] = [2000, 4000, 5000, 8000, 8999]
    second["position"] = first["position"] - 2000
    assert duplicates._span((sides[0], sides[1]), first, second) == 70
    assert duplicates._span((sides[1], sides[0]), second, first) == 70


def test_one_signal_rounded_twice_agrees_and_two_that_look_alike_do_not() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(400)
    signal = rng.normal(0, 30, 400)
    hum = 500 * np.sin(np.pi / 2.3 * t)

    def agree(x: np.ndarray, y: np.ndarray) -> bool:
        return duplicates._agree(np.rint(x).astype(np.int64), np.rint(y).astype(np.int64))

    assert agree(signal, signal + 70.4)
    assert agree(signal, -0.3 * signal)
    assert agree(signal, 3 * np.rint(signal / 3))  # a file of coarser steps
    assert agree(hum, hum + 70.4)
    assert not agree(signal, rng.permutation(signal))
    assert not agree(hum + rng.normal(0, 3, 400), hum + rng.normal(0, 3, 400))  # amplifiers of 0.3 uV
    for sd in (0.3, 1, 3):
        assert not agree(rng.normal(0, sd, 400), rng.normal(0, sd, 400))
    assert not agree(rng.normal(0, 0.3, 400), signal)
    assert not agree(np.zeros(400), np.zeros(400))


def test_a_recording_that_repeats_itself_is_not_compared_with_itself(tmp_path: Path) -> None:
    assert shared(shards_of(tmp_path, np.concatenate([eeg(1), eeg(1)]))) == []


# --- fingerprints


def test_blocks_give_the_words_of_the_whole(tmp_path: Path) -> None:
    (one,) = shards_of(tmp_path, eeg(0))
    block, present = one.read_integers(0, N), np.array([True, False, True, True])
    whole = fingerprints(block, present, n_starts=N, sfreq=SFREQ, one_in=8)
    assert set(whole["channel"]) == {0, 2, 3}
    found, tail = [], int(WORD_SECONDS * SFREQ) + 2
    for start, stop in [(0, 700), (700, 701), (701, 4000), (4000, N)]:
        words = fingerprints(block[start : stop + tail], present, n_starts=stop - start, sfreq=SFREQ, one_in=8)
        words["position"] += start
        found.append(words)
    order = ["position", "channel", "word"]
    np.testing.assert_array_equal(np.sort(np.concatenate(found), order=order), np.sort(whole, order=order))


def test_words_are_the_times_between_turning_points() -> None:
    """By hand: a channel that turns at given samples, and another that does so elsewhere."""
    rng = np.random.default_rng(0)
    runs = rng.integers(1, 6, 200)
    signal = np.concatenate([[0], np.cumsum(np.repeat(np.where(np.arange(200) % 2, -7, 9), runs))])
    options = {"n_starts": 10_000, "sfreq": 100.0, "one_in": 1}
    one = fingerprints(signal[:, None].astype(np.int16), np.array([True]), **options)
    assert one["position"].tolist() == (np.cumsum(runs)[: 200 - 1 - RUNS] - 1).tolist()
    cut = fingerprints(-3 * signal[50:, None].astype(np.int16), np.array([True]), **options)
    skipped = int((one["position"] < 50).sum())
    assert cut["word"].tolist() == one["word"][skipped:].tolist()
    assert len(set(one["word"].tolist())) == len(one)


def test_a_long_flat_stretch_gives_no_words() -> None:
    signal = np.rint(eeg(0, 2000, 1) * 10).astype(np.int16)
    flat = signal.copy()
    flat[800:1500] = flat[800]
    options = {"n_starts": 2000, "sfreq": 100.0, "one_in": 1}
    before, after = (fingerprints(block, np.array([True]), **options) for block in (signal, flat))
    assert ((before["position"] > 790) & (before["position"] < 1490)).sum() > 300
    assert ((after["position"] > 790) & (after["position"] < 1490)).sum() == 0
    assert not len(fingerprints(np.zeros((2000, 1), np.int16), np.array([True]), **options))


def test_the_table_stays_small_however_many_recordings_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = cohort_parts(shards_of(tmp_path, eeg(0), eeg(1)))
    assert one_in(parts) == duplicates.EVERY
    many = len(table_of([part.shard for part in parts]))
    monkeypatch.setattr(duplicates, "TABLE", 100)
    assert one_in(parts) == 2 * N * len(CH_NAMES) // 100
    few = len(table_of([part.shard for part in parts]))
    assert 10 <= few <= 100 < many


# --- windows


def test_digests_tell_windows_apart_and_find_those_that_stand_still() -> None:
    block = np.random.default_rng(0).integers(-99, 99, (1000, 3)).astype(np.int16)
    block[300:500] = block[300]
    block[700:900] = block[0:200]
    starts = np.array([0, 1, 299, 300, 301, 700])
    digests, still = window_digests(block, starts, 200)
    assert still.tolist() == [False, False, False, True, False, False]
    assert digests[0] == digests[5]
    assert len(set(digests.tolist())) == 5
    block[899, 2] += 1
    assert window_digests(block, starts, 200)[0][5] != digests[5]


def test_shared_windows_are_counted_and_placed(tmp_path: Path) -> None:
    one, other, third = eeg(1), eeg(2), eeg(3)
    one[6000:6400] = hum(400, sfreq=SFREQ, phase=0.7, hz=25.0)[:, None]  # of four values: it says nothing
    other[700:1100] = one[6000:6400]
    shards = shards_of(tmp_path, one, other, third)
    n = len(shards[0])
    assert n == SECONDS - 1  # windows of 2 s every second
    digests = np.arange(3 * n, dtype=np.uint64)
    digests[n + 10 : n + 15] = digests[30:35]
    digests[2 * n + 40] = digests[2 * n]
    digests[2 * n + 50] = digests[n + 7] = digests[60]
    assert shared_windows(shards, digests, np.ones(3 * n, bool)) == [(0, 1, 5, (30.0, 10.0)), (2, 2, 1, (0.0, 40.0))]
    assert shared_windows(shards, digests, np.arange(3 * n) < 2 * n) == [(0, 1, 5, (30.0, 10.0))]
