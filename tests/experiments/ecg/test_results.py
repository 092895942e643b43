"""Figures by hand: thresholds from validation alone, windows without a label left out, differences and their tests."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import tyro

from experiments.ecg import page
from experiments.ecg.__main__ import Design
from experiments.ecg.networks import ALL, RARE, SINGLE, Network
from experiments.ecg.records import Classes, Split
from experiments.ecg.results import collect, summarise, thresholds
from experiments.statistics.significance import corrected_difference
from tests.experiments.ecg.in_memory import made, small

CLASSES = Classes((0,), (1, 2))
N, FOLDS = 24, 3
LABELS = np.stack([np.arange(N) % 2, np.arange(N) % 4 == 0, np.arange(N) % 6 == 1], 1).astype(np.float32)


def splits(repeats=2):
    fold_of = np.arange(N) // (N // FOLDS)
    found = []
    for repeat in range(repeats):
        for fold in range(FOLDS):
            test, validation = fold_of == fold, fold_of == (fold + 1) % FOLDS
            parts = (np.flatnonzero(part) for part in (~test & ~validation, validation, test))
            found.append(Split(repeat, fold, *parts))
    return found


def predicted(records, single):
    """Networks with all heads are right; `single` is what those of one class predict."""
    found = {}
    for split in splits():
        rows = np.concatenate([split.validation, split.test])
        right = 0.1 + 0.8 * records.labels[rows]
        found[split.repeat, split.fold] = {
            Network(ALL, (0, 1, 2)): right,
            Network(RARE, (1, 2)): right[:, 1:],
            **{Network(SINGLE, (c,)): single(split, rows, c)[:, None] for c in (1, 2)},
        }
    return found


def wrong(split, rows, c):
    return 0.9 - 0.8 * LABELS[rows, c]


def test_thresholds_are_of_validation_windows_and_only_applied_to_the_others():
    records = made(small(), LABELS)
    twice = {
        k: {n: np.where(np.arange(len(x))[:, None] < 8, x, x / 2) for n, x in v.items()}
        for k, v in predicted(records, wrong).items()
    }
    arms = collect(records, splits(), twice)
    assert not arms[ALL].detected.any()  # 0.45 at a threshold of 0.9
    arms = collect(records, splits(), predicted(records, wrong))
    np.testing.assert_array_equal(arms[ALL].detected, np.repeat(LABELS[:, None] > 0.5, 2, 1))
    assert np.isnan(arms[SINGLE].probability[:, :, 0]).all() and not arms[SINGLE].detected[:, :, 0].any()


def test_without_a_positive_to_choose_by_nothing_is_detected():
    records = made(small(), LABELS * (np.arange(N) >= 8)[:, None])  # the first eight choose for the last fold
    arms = collect(records, splits(), predicted(records, wrong))
    assert not arms[ALL].detected[16:].any() and arms[ALL].detected[:16].any()


def test_figures_and_differences_by_hand():
    records = made(small(), LABELS)
    arms = collect(records, splits(), predicted(records, wrong))
    tree = summarise(records, CLASSES, splits(), arms, n_resamples=40)
    rows = {row["class"]: row for row in tree["classes"]}
    assert [row["is_rare"] for row in rows.values()] == [False, True, True]
    assert rows["finding 1"]["positives"] == 6 and rows["finding 1"]["labelled"] == N
    assert rows["finding 0"]["arms"][ALL] == {"auprc": 1.0, "f1": 1.0} and SINGLE not in rows["finding 0"]["arms"]
    # Every negative first, then all positives at once, with the precision of their share.
    least = {4: 4 / N, 6: 6 / N}
    assert rows["finding 1"]["arms"][SINGLE]["auprc"] == pytest.approx(least[6])
    assert tree["rare_means"][SINGLE]["auprc"] == pytest.approx((least[6] + least[4]) / 2)
    gain = tree["differences"][0]
    assert (gain["arms"], gain["figure"]) == ([ALL, SINGLE], "auprc")
    assert gain["bootstrap"]["value"] == pytest.approx(1 - (least[6] + least[4]) / 2)
    assert 0 < gain["bootstrap"]["low"] < gain["bootstrap"]["value"] < gain["bootstrap"]["high"] <= 1
    test = corrected_difference(np.array(gain["by_fold"]), n_train=8, n_test=8)
    assert gain["corrected"]["p"] == test.p and len(gain["by_fold"]) == 6
    nothing = tree["differences"][2]
    assert nothing["arms"] == [ALL, RARE] and nothing["bootstrap"]["value"] == 0
    assert nothing["corrected"]["p"] is None
    assert page._sentence(nothing).endswith("; corrected t-test over 6 folds undefined")


def test_a_window_without_a_label_does_not_count():
    weights = np.ones_like(LABELS)
    weights[12:, 1] = 0
    records = made(small(), LABELS, weights=weights)
    found = predicted(
        records, lambda split, rows, c: np.where((rows >= 12) & (c == 1), 0.95, 0.1 + 0.8 * LABELS[rows, c])
    )
    tree = summarise(records, CLASSES, splits(), collect(records, splits(), found), n_resamples=5)
    row = tree["classes"][1]
    assert (row["positives"], row["labelled"], row["arms"][SINGLE]["auprc"]) == (3, 12, 1.0)
    assert tree["differences"][0]["bootstrap"]["value"] == 0


def test_seeds_on_one_split_are_no_folds_and_the_page_says_so():
    records = made(small(), LABELS)
    own = [s._replace(fold=0, repeat=r) for r, s in enumerate([splits()[0]] * 2)]
    seeds = (wrong, lambda split, rows, c: 0.1 + 0.8 * LABELS[rows, c])  # they differ, as seeds do
    found = {(r, 0): predicted(records, single)[0, 0] for r, single in enumerate(seeds)}
    tree = summarise(records, CLASSES, own, collect(records, own, found), n_resamples=20)
    gain = tree["differences"][0]
    assert gain["corrected"]["p"] is None and gain["bootstrap"]["value"] > 0
    assert page._sentence(gain).endswith("; no folds to test over")


def test_the_verdict_needs_both_tests():
    clear = {"figure": "f1", "arms": [ALL, SINGLE], "bootstrap": {"value": 0.1, "low": 0.05, "high": 0.2}}
    clear["corrected"] = {"p": 0.001, "p_holm": 0.004, "n_folds": 10}
    assert "all classes above one network a class in F1 (in both tests)" in page._verdict([clear])
    for other in (
        {"bootstrap": {"value": 0.1, "low": -0.1, "high": 0.2}},
        {"corrected": {"p": 0.02, "p_holm": 0.08, "n_folds": 10}},
        {"corrected": {"p": None, "p_holm": None, "n_folds": 10}},
    ):
        assert page._verdict([clear | other]).startswith("not significant")


def test_without_folds_the_verdict_claims_no_second_test():
    corrected = {"p": None, "p_holm": None, "n_folds": 0}
    clear = {"figure": "f1", "arms": [ALL, SINGLE], "corrected": corrected}
    clear["bootstrap"] = {"value": -0.1, "low": -0.2, "high": -0.05}
    unclear = clear | {"figure": "auprc", "bootstrap": {"value": 0.1, "low": -0.1, "high": 0.2}}
    text = page._verdict([clear, unclear])
    assert text.startswith("all classes below one network a class in F1, by the patient bootstrap alone")
    assert "the 2 intervals are not adjusted for their number" in text
    assert page._verdict([unclear]).startswith("not significant. No interval of the patient bootstrap excludes 0")
    for verdict in (text, page._verdict([unclear])):
        assert "both tests" not in verdict and "nothing else is significant" not in verdict


def test_each_rare_class_has_its_paired_differences_and_those_off_zero_are_named():
    tree = json.loads((Path(page.__file__).parents[1] / "results/ecg/ecg.json").read_text())
    differences = tree["results"]["differences"]
    rare = [row for row in tree["results"]["classes"] if row["is_rare"]]
    made_up = {"auprc": {"value": 0.2, "low": 0.01, "high": 0.3}, "f1": {"value": None, "low": None, "high": None}}
    for d in differences:
        d["by_class"] |= {name: {"value": 0.1, "low": -0.1, "high": 0.2} for name in d["by_class"]}
        if d["arms"] == [ALL, SINGLE]:
            d["by_class"]["RBBB"] = made_up[d["figure"]]
    differences[-1]["by_class"]["PVC"] = {"value": -0.3, "low": -0.4, "high": -0.001}
    text = page.markdown(tree)
    table = text.split("### Differences by class")[1].split("\n\n")[1].splitlines()
    assert len(table) == 2 + len(rare) and {line.count("|") for line in table} == {4 + len(differences) + 1}
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table[2:]}
    same = "+0.100 [-0.100, +0.200]"
    assert rows["RBBB"] == f"| RBBB | 10 | 355 | 0.028 | **+0.200 [+0.010, +0.300]** | - undefined | {same} | {same} |"
    assert rows["PVC"].endswith("| **-0.300 [-0.400, -0.001]** |") and rows["AF"].count(same) == len(differences)
    n_told = len(rare) * len(differences) - 1
    assert (
        f" 2 of {n_told} do: AUPRC, all classes minus one network a class: RBBB +0.200 [+0.010, +0.300];"
        " F1, all classes minus rare classes: PVC -0.300 [-0.400, -0.001]." in text
    )
    assert "not adjusted for the number of classes" in text
    differences[0]["by_class"]["RBBB"] = differences[-1]["by_class"]["PVC"] = {"value": 0, "low": -1, "high": 1}
    assert f" 0 of {n_told} do." in page.markdown(tree)


def test_the_published_page_is_what_its_figures_say():
    folder = Path(page.__file__).parents[1] / "results/ecg"
    assert (folder / "ecg.md").read_text() == page.markdown(json.loads((folder / "ecg.json").read_text()))


def test_the_commands_for_ptb_xl_are_those_of_the_docs_and_can_be_given():
    docs = (Path(page.__file__).parents[2] / "docs/experiments.md").read_text()
    assert f"```bash\n{page.ON_PTB_XL}```" in docs
    _, command = page.ON_PTB_XL.replace("\\\n", "").strip().splitlines()
    assert command.startswith("python -m experiments.ecg SHARDS ")
    design = tyro.cli(Design, args=shlex.split(command)[4:])
    assert (design.folds, design.repeats, design.steps, design.learning_rate) == (0, 5, 4000, 1e-3)


def test_the_threshold_for_all_records_is_of_out_of_fold_probabilities():
    records = made(small(), LABELS)
    (point,) = thresholds(records, (1,), collect(records, splits(), predicted(records, wrong))[ALL])
    assert (point.task, point.criterion) == ("finding 1", "max_f1")
    assert point.threshold == pytest.approx(0.9) and point.f1 == 1 and point.n_windows == 2 * N
