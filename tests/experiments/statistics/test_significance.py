import math

import numpy as np
import pytest

from experiments.statistics.significance import corrected_difference, hanley_mcneil, holm
from siamese_jax.evaluation.metrics import auroc
from siamese_jax.evaluation.statistics import patient_bootstrap


def test_corrected_difference_by_hand():
    # s^2 = 2.5; (1/5 + 1/4) 2.5 = 1.125, root 1.06066; t = 2.828427; t(4) at .975 is 2.776445.
    test = corrected_difference(np.array([1.0, 2, 3, 4, 5]), n_train=80, n_test=20)
    assert test.mean == 3 and test.n_folds == 5
    assert (test.low, test.high) == pytest.approx((3 - 2.776445 * 1.0606602, 3 + 2.776445 * 1.0606602), abs=1e-5)
    assert test.p == pytest.approx(0.0474207, abs=1e-6)


def test_folds_that_share_training_data_find_nothing_too_often_unless_corrected():
    # No true difference; folds correlate by n_test / (n_train + n_test), as Nadeau and Bengio assume.
    rng = np.random.default_rng(0)
    found, naive = 0, 0
    for _ in range(1000):
        folds = math.sqrt(0.2) * rng.normal() + math.sqrt(0.8) * rng.normal(size=10)
        found += corrected_difference(folds, n_train=80, n_test=20).p < 0.05
        naive += corrected_difference(folds, n_train=1e12, n_test=1).p < 0.05
    assert 30 <= found <= 70 and naive > 200


@pytest.mark.parametrize("differences", [[], [0.3], [0.0, 0.0, 0.0], [0.1 + 0.2, 0.3, 0.3]])
def test_folds_that_do_not_vary_say_nothing(differences):
    test = corrected_difference(np.array(differences), n_train=4, n_test=1)
    assert all(math.isnan(x) for x in (test.low, test.high, test.p))
    assert test.n_folds == len(differences)
    with pytest.raises(ValueError, match="given 0, 1 and 0.95"):
        corrected_difference(np.array(differences), n_train=0, n_test=1)


def test_holm_by_hand():
    # 4 x .01; 3 x .015 = .045; 2 x .02 = .04, raised to .045; .8 as it is.
    adjusted = holm({"d": 0.8, "a": 0.01, "x": math.nan, "c": 0.02, "b": 0.015})
    assert [adjusted[k] for k in "abcd"] == pytest.approx([0.04, 0.045, 0.045, 0.8])
    assert math.isnan(adjusted["x"])
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_hanley_mcneil_of_the_published_comparison():
    # AUROC .978 with 11,760 of 265,551 windows: a standard error of about .00095.
    low, high = hanley_mcneil(0.978, n_positives=11_760, n_negatives=253_791)
    assert (high - low) / 2 == pytest.approx(0.0019, abs=5e-5)
    assert (low + high) / 2 == pytest.approx(0.978)
    assert hanley_mcneil(1.0, n_positives=5, n_negatives=5) == (1.0, 1.0)
    assert all(math.isnan(x) for x in hanley_mcneil(0.9, n_positives=0, n_negatives=5))
    assert all(math.isnan(x) for x in hanley_mcneil(math.nan, n_positives=5, n_negatives=5))


def test_hanley_mcneil_is_narrower_than_patients_are():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 100)
    labels = rng.random(2000) < rng.uniform(0, 0.5, 20)[patients]
    scores = 2 * rng.normal(size=20)[patients] + rng.normal(labels, 1)
    slow = patient_bootstrap(auroc, patients, (scores, labels), seed=0, n_resamples=200)
    low, high = hanley_mcneil(slow.value, n_positives=int(labels.sum()), n_negatives=int((~labels).sum()))
    assert high - low < 0.6 * (slow.high - slow.low)
