"""What is on the page is what is in the tree, and the page says what it is."""

import csv
import io

import pytest

from experiments.sweep.measures import STRATA
from experiments.sweep.page import MEANINGS, TITLES, csv_text, markdown
from experiments.sweep.summary import Contrast, summarise
from tests.experiments.sweep.made_up import FACTS, scored


@pytest.fixture(scope="module")
def tree():
    runs = [
        scored(name, quality=q, seed=s, n_windows=120) for name, q in (("best", 3.0), ("other", 2.0)) for s in (0, 1)
    ]
    return summarise(runs, FACTS, reference="best", effects=[Contrast("what it adds", "best", "other")], n_resamples=50)


def rows(text, head):
    """Cells by first column of the table whose head begins so."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(head))
    columns = [cell.strip() for cell in lines[start].strip("|").split("|")]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == len(columns)
        found[cells[0]] = dict(zip(columns, cells, strict=True))
    return found


def test_the_page_says_what_the_data_are_and_how_it_was_made(tree):
    page = markdown(tree)
    whole = tree["strata"]["all"]
    for part in (FACTS.title, f"Data: {FACTS.source}", FACTS.note, FACTS.command, FACTS.commit, FACTS.date):
        assert part in page
    for part in (
        f"{whole['windows']} windows of 4 s",
        f"{whole['positives']} with an IED",
        "seeds 0, 1",
        "40 s of training",
    ):
        assert part in page
    assert f"prevalence {whole['prevalence']:.4f}" in page and "1 patient-grouped split" in page
    assert all(meaning in page for meaning in MEANINGS.values())


def test_the_main_table_shows_the_tree(tree):
    found = rows(markdown(tree), "| run | parameters")
    assert list(found) == ["best", "other"]
    area = tree["runs"]["other"]["strata"]["all"]["auroc"]
    shown = f"{area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}] ±{area['seed_sd']:.3f}"
    assert found["other"]["AUROC"] == shown
    assert found["other"]["folds x seeds"] == "1 x 2" and found["other"]["parameters"] == "1,234"
    assert "±" not in rows(markdown(tree), "| run | specificity at 0.80")["best"]["AUROC by windows"]


def test_differences_and_effects_have_signs_seeds_and_p(tree):
    page = markdown(tree)
    found = rows(page[page.index("## Differences from best") :], "| run | AUPRC")["other"]["AUROC"]
    d = tree["differences"][0]["figures"]["auroc"]
    assert found == f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]; 0/2; p {d['p_bootstrap_holm']:.3f}"
    effect = rows(page[page.index("## Effects") :], "| run | AUPRC")["what it adds: best - other"]["AUROC"]
    assert effect.startswith("+") and "; 2/2; p " in effect
    assert "the patient bootstrap, since one split" in page


def test_over_folds_the_corrected_test_speaks():
    runs = [scored(name, quality=q, fold=f) for name, q in (("best", 3.0), ("other", 2.0)) for f in range(3)]
    tree = summarise(runs, FACTS, reference="best", n_resamples=50)
    page = markdown(tree)
    assert "Nadeau & Bengio" in page and "3 patient-grouped folds" in page and "## Effects" not in page
    found = tree["differences"][0]["figures"]["auroc"]
    p, shown = found["p_corrected_holm"], rows(page, "| run | AUPRC")["other"]["AUROC"]
    assert ("< 0.001" if p < 0.001 else f"{p:.3f}") in shown
    # The interval is that of the same test: the other knows nothing of other training sets.
    assert f"[{found['corrected_low']:+.3f}, {found['corrected_high']:+.3f}]" in shown


def test_where_each_seed_drew_its_own_training_patients_they_are_tested_too():
    runs = [
        scored(name, quality=q[s], seed=s, n_windows=120)
        for name, q in (("best", [2.0] * 3), ("other", [1.9, 1.9, 0.8]))
        for s in range(3)
    ]
    tree = summarise(runs, FACTS._replace(training_drawn=True), reference="best", n_resamples=50)
    found, page = tree["differences"][0]["figures"]["auroc"], markdown(tree)
    each = ", ".join(f"{x:+.3f}" for x in found["by_seed"])
    assert rows(page, "| run | AUPRC")["other"]["AUROC"].endswith(f"]; {each}; p {found['p_drawn_holm']:.3f}")
    assert "Student's t over the seeds' training patients" in page and "one split says nothing" not in page


def test_what_is_undefined_is_a_dash_with_its_reason():
    one = scored("best", quality=2.0)
    test = one.test._replace(stage=one.test.stage * 0)
    tree = summarise([one._replace(test=test)], FACTS, reference="best", n_resamples=50)
    page = markdown(tree)
    assert rows(page, "| AUROC | W")["best"]["R"] == "-" and rows(page, "| AUROC | W")["best"]["W"] != "-"
    assert "R has no figures: 0 positives in 0 patients (least: 10 in 3)." in page
    assert "None" not in page and "nan" not in page
    assert "No other run." in page


def test_a_whole_sweep_with_too_few_positives_is_still_a_page():
    one = scored("best", quality=2.0)
    other = one._replace(run="other")
    none = [s._replace(test=s.test._replace(label=s.test.label & False)) for s in (one, other)]
    page = markdown(summarise(none, FACTS, reference="best", n_resamples=50))
    assert "Too few for figures: 0 positives in 0 patients." in page
    assert rows(page, "| run | parameters")["other"]["AUROC"] == "-"
    assert rows(page[page.index("## Diff") :], "| run | AUPRC")["other"]["AUROC"] == "-; -/0; p -"


def test_the_csv_has_a_row_for_each_run_stratum_and_figure(tree):
    found = list(csv.DictReader(io.StringIO(csv_text(tree))))
    assert len(found) == 2 * (len(STRATA) * len(TITLES) + 1)
    for row in found:
        if row["figure"] != "auroc_hanley_mcneil":
            item = tree["runs"][row["run"]]["strata"][row["stratum"]].get(row["figure"])
            for column in ("value", "low", "high"):
                value = item[column] if item else None
                assert row[column] == ("" if value is None else str(value))
    measured = {f for run in tree["runs"].values() for stratum in run["strata"].values() for f in stratum}
    assert measured == set(TITLES)
