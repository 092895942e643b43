"""Telling simulated from real: features that are what they are called, and classifiers that know only what they may."""

import numpy as np
import pytest

from experiments.simulator import realism
from experiments.simulator.realism import LEVEL, RECORDER, SHAPE, Epochs, Windows

RATE = 100.0


def people(values, is_real, stage, person) -> Windows:
    x = np.asarray(values, float)
    return Windows(x if x.ndim == 2 else x[:, None], np.array(is_real, bool), np.array(stage), np.array(person))


def gaussian(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 20, (n, 400))


def test_every_feature_is_there_and_the_families_are_what_they_say():
    x = gaussian(20)
    plain, louder = realism.features(x, RATE), realism.features(3 * x + 7, RATE)
    assert set(plain) == set(LEVEL) | set(SHAPE) and not set(LEVEL) & set(SHAPE)
    for name in SHAPE:
        np.testing.assert_allclose(louder[name], plain[name], rtol=1e-4, atol=1e-4, err_msg=name)
    for name in LEVEL:  # logarithms of amplitudes, or of powers
        factor = np.log(9) if name.endswith("power") else np.log(3)
        np.testing.assert_allclose(louder[name] - plain[name], factor, rtol=1e-4, err_msg=name)


def test_features_of_signals_that_are_known():
    t = np.arange(400) / RATE
    sine = realism.features(np.tile(10 * np.sin(2 * np.pi * 10 * t + 0.1), (2, 1)), RATE)
    assert sine["zero crossings"][0] == pytest.approx(20, abs=0.6)
    assert sine["crest factor"][0] == pytest.approx(2**0.5, rel=0.03)
    assert sine["kurtosis"][0] == pytest.approx(-1.5, abs=0.02)
    assert sine["Hjorth mobility"][0] == pytest.approx(2 * np.sin(np.pi * 10 / RATE), rel=0.01)
    assert sine["Hjorth complexity"][0] == pytest.approx(1, rel=0.01)
    assert sine["alpha share"][0] == pytest.approx(0, abs=1e-3) and sine["beta share"][0] < -8
    assert sine["standard deviation"][0] == pytest.approx(np.log(10 / 2**0.5), abs=0.01)
    noise = realism.features(gaussian(400), RATE)
    assert np.median(noise["kurtosis"]) == pytest.approx(0, abs=0.05)
    assert np.median(noise["slope"]) == pytest.approx(0, abs=0.05)
    spiky = gaussian(400)
    spiky[:, 200] += 300
    assert np.median(realism.features(spiky, RATE)["kurtosis of the difference"]) > 5


def test_recorders_leave_steps_and_mains():
    rate, rng = 200.0, np.random.default_rng(0)
    x = rng.normal(0, 20, (10, 800))
    plain = realism.recorder_features(x, rate)
    assert set(plain) == set(RECORDER)
    stepped = realism.recorder_features(np.round(x / 4) * 4, rate)
    np.testing.assert_allclose(stepped["step of the values"], np.log10(4), atol=1e-6)
    assert (stepped["repeated values"] > 0.02).all() and (plain["repeated values"] < 0.01).all()
    mains = realism.recorder_features(x + 20 * np.sin(2 * np.pi * 50 * np.arange(800) / rate), rate)
    assert (mains["mains line"] - plain["mains line"] > 2).all()


def test_the_auroc_is_that_of_pairs_of_the_same_stage():
    # 0..9 simulated, 5..14 real: a real value is larger in 85 of 100 pairs and equal in 5.
    w = people([*range(10), *range(5, 15)], [0] * 10 + [1] * 10, [2] * 20, [0] * 10 + [1] * 10)
    assert realism.matched_auroc(w.features[:, 0], w) == pytest.approx(0.85 + 0.05 / 2)
    same = people([*range(10)] * 2, [0] * 10 + [1] * 10, [2] * 20, [0] * 10 + [1] * 10)
    assert realism.matched_auroc(same.features[:, 0], same) == pytest.approx(0.5)
    # The value is the stage, and real people sleep more deeply: no difference within a stage.
    stage = [0] * 8 + [3] * 2 + [0] * 2 + [3] * 8
    mixed = people(stage, [0] * 10 + [1] * 10, stage, [0] * 10 + [1] * 10)
    assert realism.matched_auroc(mixed.features[:, 0], mixed) == pytest.approx(0.5)
    # Within each stage every real value is larger; a deep simulated one is larger than a light real one all the same.
    within = people(10 * np.array(stage) + mixed.is_real, mixed.is_real, stage, mixed.person)
    assert realism.matched_auroc(within.features[:, 0], within) == pytest.approx(1)


def test_weights_match_stages_and_people():
    stage = np.array([0] * 6 + [3] * 2 + [0] + [3] * 3 + [4] * 4)
    is_real = [0] * 8 + [1] * 4 + [0] * 4
    person = [0] * 5 + [1] * 1 + [0] + [1] + [2] * 4 + [0] * 4
    w = people(np.zeros(16), is_real, stage, person)
    weights = realism.matched_weights(w)
    assert (weights[stage == 4] == 0).all()  # no real one to compare with
    for side in (w.is_real, ~w.is_real):
        assert weights[side].sum() == pytest.approx(1)
        assert weights[side & (stage == 0)].sum() == pytest.approx(1 / 4)
    assert weights[:5].sum() == pytest.approx(weights[5])  # five windows of one, one of the other


def test_logistic_regression_finds_the_odds():
    # One feature of two values: without a penalty the odds are those of the counts.
    x = np.array([0.0] * 10 + [1.0] * 10)[:, None]
    y = np.array([1] * 2 + [0] * 8 + [1] * 7 + [0] * 3, bool)
    slope, intercept = realism.fit_logistic(x, y, np.full(20, 0.05), penalty=0.0)
    assert intercept == pytest.approx(np.log(2 / 8), abs=1e-3)
    assert slope == pytest.approx(np.log(7 / 3) - np.log(2 / 8), abs=1e-3)


def crowd(shift: float, *, n_real: int = 3, n_simulated: int = 9, own: float = 0.0, seed: int = 0) -> Windows:
    """Windows of people who differ by `own`, and real from simulated ones by `shift`."""
    rng = np.random.default_rng(seed)
    n = n_real + n_simulated
    person = np.repeat(np.arange(n), 60)
    is_real = person >= n_simulated
    x = rng.normal(0, 1, (len(person), 5)) + rng.normal(0, own + 1e-9, (n, 5))[person]
    x[:, 0] += shift * is_real
    return people(x, is_real, rng.integers(0, 3, len(person)), person)


def test_what_differs_is_told_apart_in_people_never_seen():
    found = realism.told_apart(crowd(2.0))
    assert len(found) == 3 and np.mean(found) == pytest.approx(0.92, abs=0.03)  # Phi(2 / sqrt 2)
    assert np.mean(realism.told_apart(crowd(0.0))) == pytest.approx(0.5, abs=0.07)


def test_nobody_is_recognised():
    # People differ much, real from simulated ones do not: a classifier that knew the people would separate all.
    found = [np.mean(realism.told_apart(crowd(0.0, own=5.0, seed=seed))) for seed in range(12)]
    assert np.mean(found) < 0.65
    few = crowd(0.0, n_real=1, n_simulated=3)
    assert np.isnan(realism.told_apart(few)).all()  # nobody real is left to train on


def test_without_a_difference_simulated_people_stand_in_for_real_ones():
    w = crowd(3.0)
    for one in realism.without_difference(w, 3, 5, np.random.default_rng(0)):
        assert len(one.people(real=True)) == 3 and len(one.people(real=False)) == 6
        assert set(one.person.tolist()) == set(range(9))  # no real person is among them


def test_stages_are_found_by_the_nearest_mean_and_by_how_frequent_they_are():
    x = np.array([-1.0, 1.0] * 500)[:, None] + np.random.default_rng(0).normal(0, 0.5, (1000, 1))
    stage = np.array([0, 2] * 500)
    assert realism.discriminant(x, stage, np.array([[-0.2], [0.2]])).tolist() == [0, 2]
    kept = (stage == 2) | (np.arange(1000) < 60)  # N2 is now 17 times as frequent as W
    assert realism.discriminant(x[kept], stage[kept], np.array([[-0.2], [-1.2]])).tolist() == [2, 0]


def epochs(means: dict[int, float], seed: int = 0, n: int = 40) -> Epochs:
    stage = np.repeat(list(means), n)
    x = np.array([means[s] for s in stage.tolist()])[:, None] + np.random.default_rng(seed).normal(
        0, 0.1, (len(stage), 1)
    )
    return Epochs(x, stage)


def test_who_is_left_out_is_not_trained_on():
    # The last person's stages are the wrong way round: whoever trains on them as well finds some right.
    upside_down = epochs({0: 1.0, 2: -1.0}, 9, n=120)
    others = [epochs({0: -1.0, 2: 1.0}, seed) for seed in range(4)]
    rng = np.random.default_rng(0)
    matrices = realism.left_out([others[0], upside_down], [1], n_train=None, rng=rng)
    assert realism.kappa(matrices) == pytest.approx(-1)
    assert realism.kappa(realism.left_out(others, [0, 1], n_train=2, rng=rng)) == pytest.approx(1)


def test_within_a_person_the_stages_overlap_as_they_do():
    rng = np.random.default_rng(0)
    order = rng.permutation(80)
    clear = epochs({0: -1.0, 2: 1.0})
    assert realism.within_person(Epochs(clear.features[order], clear.stage[order])) == pytest.approx(1)
    none = epochs({0: 0.0, 2: 0.0})
    assert abs(realism.within_person(Epochs(none.features[order], none.stage[order]))) < 0.35
    assert np.isnan(realism.within_person(Epochs(clear.features[:3], clear.stage[:3])))
