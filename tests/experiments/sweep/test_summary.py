"""From runs to what is claimed: known truths are found, and no more than that."""

import json
import math

import numpy as np
import pytest

from experiments.statistics.significance import corrected_difference
from experiments.sweep.summary import COMPARED, Contrast, _p, _p_of_draws, summarise
from siamese_jax.evaluation import metrics
from siamese_jax.evaluation.statistics import patient_bootstrap
from tests.experiments.sweep.made_up import FACTS, scored


def sweep(qualities, *, folds=1, seeds=3, **size):
    return [
        scored(run, quality=q, fold=f, seed=s, **size)
        for run, q in qualities.items()
        for f in range(folds)
        for s in range(seeds)
    ]


def summary(runs, **options):
    return summarise(runs, FACTS, reference="best", **({"n_resamples": 100} | options))


def by_name(rows):
    return {row["name"]: row["figures"] for row in rows}


@pytest.mark.parametrize("with_ieds", [10, 3])
def test_one_split_and_seed_is_the_plain_patient_bootstrap(with_ieds):
    one = scored("best", quality=1.5, rounded=2)
    few = np.isin(one.test.patient, np.unique(one.test.patient)[:with_ieds])
    one = one._replace(test=one.test._replace(label=one.test.label & few))
    found = summary([one], seed=3)["runs"]["best"]["strata"]["all"]["auroc"]
    slow = patient_bootstrap(
        metrics.auroc, one.test.patient, (one.test.probability, one.test.label), seed=3, n_resamples=100
    )
    assert (found["value"], found["low"], found["high"]) == pytest.approx((slow.value, slow.low, slow.high), abs=1e-9)
    assert found["resamples_undefined"] == 100 - slow.n_resamples_valid and found["seed_sd"] is None
    assert (with_ieds == 3) == (slow.n_resamples_valid < 100)


def test_a_network_better_by_construction_is_found_and_an_equal_one_is_not():
    runs = sweep({"best": 3.0, "worse": 1.5, "equal": 3.0}, n_windows=120, alike=0.5)
    copies = [s._replace(run="copy") for s in runs if s.run == "best"]
    found = by_name(summary(runs + copies, n_resamples=200)["differences"])
    for figure in COMPARED:
        worse, copy = found["worse"][figure], found["copy"][figure]
        assert worse["high"] < 0 and worse["share_of_seeds_better"] == 0 and worse["p_bootstrap_holm"] < 0.05
        # Seeds of `equal` are those of `best`: two names of the same predictions.
        for same in (copy, found["equal"][figure]):
            assert same["value"] == 0 and same["low"] <= 0 <= same["high"] and same["p_bootstrap"] == 1
        assert worse["p_corrected"] is None and worse["seeds"] == 3 and worse["folds"] == 1


def test_chance_scores_at_chance():
    tree = summary(sweep({"best": 0.0}, n_patients=25, n_windows=120))
    found = tree["runs"]["best"]["strata"]["all"]
    for figure, chance in (("auroc", 0.5), ("matched_auroc", 0.5)):
        assert found[figure]["low"] < chance < found[figure]["high"]
    prevalence = tree["strata"]["all"]["prevalence"]
    assert found["auprc"]["value"] == pytest.approx(prevalence, abs=0.02)


def test_a_paired_interval_is_narrower_than_two_intervals():
    tree = summary(sweep({"best": 2.0, "other": 1.8}, alike=0.8, n_windows=120))
    runs = [tree["runs"][name]["strata"]["all"]["auroc"] for name in ("best", "other")]
    unpaired = math.hypot(*(run["high"] - run["low"] for run in runs))
    paired = by_name(tree["differences"])["other"]["auroc"]
    assert paired["high"] - paired["low"] < 0.6 * unpaired
    assert paired["value"] == pytest.approx(runs[1]["value"] - runs[0]["value"])


def test_means_over_folds_and_seeds_and_the_corrected_test():
    runs = sweep({"best": 2.5, "other": 2.0}, folds=3, seeds=2, n_windows=100)
    tree = summary(runs)
    areas = {(s.run, s.fold, s.seed): metrics.auroc(s.test.probability, s.test.label) for s in runs}
    mine = np.array([[areas["best", f, s] for s in range(2)] for f in range(3)])
    theirs = np.array([[areas["other", f, s] for s in range(2)] for f in range(3)])
    found = tree["runs"]["best"]["strata"]["all"]["auroc"]
    assert found["value"] == pytest.approx(mine.mean())
    assert found["seed_sd"] == pytest.approx(np.std(mine.mean(0), ddof=1))
    difference = by_name(tree["differences"])["other"]["auroc"]
    # 60 patients, 12 in each fold for testing and 12 for validation.
    slow = corrected_difference((theirs - mine).mean(1), n_train=36, n_test=12)
    assert difference["p_corrected"] == pytest.approx(slow.p)
    assert (difference["corrected_low"], difference["corrected_high"]) == pytest.approx((slow.low, slow.high))
    assert difference["p_corrected_holm"] == difference["p_corrected"]  # one comparison
    assert tree["strata"]["all"]["patients"] == 36 and tree["strata"]["all"]["windows"] == 3600


def test_p_of_the_bootstrap_by_hand():
    # Of 4 resamples one lies at or below 0, and one is undefined: 2 (1 + 1) / (4 + 1).
    assert _p(np.array([1.0, -1, 2, 3, np.nan, 4])) == pytest.approx(0.8)
    assert _p(np.array([-1.0, *[-2] * 99])) == pytest.approx(2 / 100)
    assert math.isnan(_p(np.array([np.nan, 1, 2])))


def test_repeats_that_test_the_same_patients_again_make_no_interval_narrower():
    """The same predictions ten times over are no more patients."""
    runs = sweep({"best": 1.5, "other": 1.2}, seeds=1, n_patients=20, n_windows=120)
    again = [s._replace(fold=fold) for s in runs for fold in range(1, 10)]
    once, often = summary(runs, n_resamples=300), summary(runs + again, n_resamples=300)
    for figure in ("auroc", "auprc", "f1"):
        one, other = (tree["runs"]["best"]["strata"]["all"][figure] for tree in (once, often))
        assert (other["low"], other["high"]) == pytest.approx((one["low"], one["high"]))
        one, other = (by_name(tree["differences"])["other"][figure] for tree in (once, often))
        assert (other["low"], other["high"]) == pytest.approx((one["low"], one["high"]))


def test_patients_of_a_fold_have_their_own_draws():
    """Not those of whoever stands in their place in another fold."""
    runs = sweep({"best": 1.5}, folds=3, seeds=1, n_windows=100)
    apart = [summary([s], n_resamples=400)["runs"]["best"]["strata"]["all"]["auroc"] for s in runs]
    together = summary(runs, n_resamples=400)["runs"]["best"]["strata"]["all"]["auroc"]
    width = float(np.mean([one["high"] - one["low"] for one in apart]))
    assert together["high"] - together["low"] == pytest.approx(width / math.sqrt(3), rel=0.3)


def test_training_sets_that_disagree_are_no_finding_however_sure_the_test_patients_are():
    # The differences of D and A that three draws of twelve patients gave: t = -1.873, and with two
    # degrees of freedom p is 1 - |t| / sqrt(t^2 + 2).
    assert _p_of_draws([-0.022, -0.024, -0.102]) == pytest.approx(1 - 1.873 / math.sqrt(1.873**2 + 2), abs=2e-4)
    assert _p_of_draws([0.1]) == 1 and _p_of_draws([0.1, 0.1]) == 0 and _p_of_draws([0.0, 0.0]) == 1
    runs = [scored("best", quality=2.0, seed=s, n_windows=120, alike=0.9) for s in range(3)]
    worse = [scored("other", quality=q, seed=s, n_windows=120, alike=0.9) for s, q in enumerate((1.9, 1.9, 0.8))]
    found = by_name(summary(runs + worse)["differences"])["other"]["auroc"]
    assert found["p_bootstrap"] < 0.05 < found["p_drawn"] == _p_of_draws(found["by_seed"])
    assert np.mean(found["by_seed"]) == pytest.approx(found["value"]) and len(found["by_seed"]) == 3


def test_no_false_detection_in_few_hours_is_no_proof_of_none():
    one = scored("best", quality=2.0)
    silent = one._replace(test=one.test._replace(log_odds=np.where(one.test.label, one.test.log_odds, -np.inf)))
    tree = summary([silent])
    hours = tree["strata"]["all"]["ied_free_hours"]
    found = tree["runs"]["best"]["strata"]["all"]["false_detections_per_hour"]
    # Of a Poisson count with this mean, none comes 2.5 times in a hundred.
    assert found["value"] == 0 and math.exp(-found["high"] * hours) == pytest.approx(0.025)


def test_holm_grows_with_the_number_of_networks():
    qualities = {"best": 2.2, "a": 2.1, "b": 2.15}
    few = by_name(summary(sweep({k: qualities[k] for k in ("best", "a")}, folds=3, seeds=1))["differences"])
    more = by_name(summary(sweep(qualities, folds=3, seeds=1))["differences"])
    assert more["a"]["auroc"]["p_corrected"] == pytest.approx(few["a"]["auroc"]["p_corrected"])
    smaller = min("ab", key=lambda name: more[name]["auroc"]["p_corrected"])
    assert more[smaller]["auroc"]["p_corrected_holm"] == pytest.approx(2 * more[smaller]["auroc"]["p_corrected"])


def test_effects_are_contrasts_of_runs_that_are_there():
    runs = sweep({"best": 3.0, "b": 2.0, "c": 1.0}, n_windows=120)
    questions = [Contrast("gain", "b", "c"), Contrast("loss", "c", "b"), Contrast("unknown", "b", "nobody")]
    found = by_name(summary(runs, effects=questions)["effects"])
    assert list(found) == ["gain", "loss"]
    gain, loss = found["gain"]["auprc"], found["loss"]["auprc"]
    assert gain["low"] > 0 and gain["share_of_seeds_better"] == 1
    assert (gain["value"], gain["low"]) == pytest.approx((-loss["value"], -loss["high"]))


def test_a_sweep_that_was_cut_off_is_compared_where_it_can_be():
    runs = sweep({"best": 3.0, "other": 2.0, "late": 2.0}, n_windows=120)
    runs = [s for s in runs if (s.run, s.seed) not in {("other", 0), ("best", 2)}]
    runs = [s._replace(fold=7) if s.run == "late" else s for s in runs]
    tree = summary(runs)
    found = by_name(tree["differences"])
    assert found["other"]["auprc"]["seeds"] == 1  # seed 1 alone has both
    assert found["late"]["auprc"]["seeds"] == 0 and found["late"]["auprc"]["value"] is None
    assert tree["runs"]["other"]["seeds"] == [1, 2]


def test_patients_that_repeated_folds_test_again_count_once():
    runs = sweep({"best": 2.0}, seeds=1)
    again = [s._replace(fold=1) for s in runs]
    once, twice = summary(runs), summary(runs + again)
    for name, stratum in once["strata"].items():
        assert twice["strata"][name] | {"folds": 0, "too_few": None} == stratum | {"folds": 0, "too_few": None}
    assert twice["runs"]["best"]["auroc_hanley_mcneil"] == once["runs"]["best"]["auroc_hanley_mcneil"]


def test_stages_with_too_few_have_a_reason_and_no_figure():
    (one,) = sweep({"best": 2.0}, seeds=1, n_windows=120)
    test = one.test._replace(stage=np.where(one.test.stage == 4, -1, one.test.stage))
    tree = summary([one._replace(test=test)])
    assert tree["strata"]["R"]["too_few"] == "0 positives in 0 patients" and tree["strata"]["R"]["windows"] == 0
    assert "auroc" not in tree["runs"]["best"]["strata"]["R"] and "auroc" in tree["runs"]["best"]["strata"]["N2"]
    assert tree["runs"]["best"]["strata"]["R"]["false_detections_per_hour"]["value"] is None


def test_the_tree_is_json_and_the_seed_fixes_it():
    runs = sweep({"best": 2.0, "other": 1.0}, seeds=1)
    tree = summary(runs)
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree == summary(runs)
    assert tree["seconds"] == 20 and tree["source"] == FACTS.source
    assert summary(runs, seed=9)["runs"] != tree["runs"]


def test_what_cannot_be_compared_is_refused():
    one, other = sweep({"best": 2.0, "other": 1.0}, seeds=1)
    with pytest.raises(ValueError, match="no run was scored"):
        summary([])
    with pytest.raises(ValueError, match="run 'best', fold 0, seed 0 is there twice"):
        summary([one, one])
    shifted = other._replace(test=other.test._replace(label=np.roll(other.test.label, 1)))
    with pytest.raises(ValueError, match="'other', seed 0 was tested on other windows than the rest of fold 0"):
        summary([one, shifted])
    with pytest.raises(ValueError, match=r"patients \['T0000', .* are in validation and in test"):
        summary([one._replace(validation=one.test)])


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    # Two seeds on the same 30 patients of 1,500, on all of whom the truth is measured.
    many = [scored("best", quality=1.5, seed=s, n_patients=1500, n_windows=20) for s in range(2)]
    fixing = scored("best", quality=1.5).validation
    truth = np.mean([metrics.auroc(s.test.probability, s.test.label) for s in many])
    unknown = np.full(600, -1, np.int32)
    covered, rng = 0, np.random.default_rng(0)
    for _ in range(25):
        first = 20 * rng.choice(1500, 30, replace=False)
        chosen = (np.sort(first)[:, None] + np.arange(20)).ravel()
        tests = [type(s.test)(*(c[chosen] for c in s.test))._replace(stage=unknown) for s in many]
        runs = [s._replace(validation=fixing, test=test) for s, test in zip(many, tests, strict=True)]
        found = summary(runs, n_resamples=100)["runs"]["best"]["strata"]["all"]["auroc"]
        covered += found["low"] <= truth <= found["high"]
    assert covered >= 21  # 24 by its own account
