"""What each file's labels mean, and their irregularities; missing sets, malformed files."""

import math

import numpy as np
import pytest

from experiments.real.sets import read_sets
from siamese_jax.vocabulary import TEN_TWENTY
from tests.experiments.real.made_up import SFREQ, signal, write_grond, write_healthy, write_segment


def test_before_its_marks_begin_a_segment_is_unmarked_not_negative(tmp_path):
    write_grond(tmp_path, "gpd_01", "gpd", discharges=(2, 6, 7.5), marked=True)
    write_grond(tmp_path, "lpd_07", "lpd", discharges=(2, 6))
    write_grond(tmp_path, "lrda_01", "lrda")
    (gpd, lpd, lrda), missing = read_sets(tmp_path)[0]["grond"], read_sets(tmp_path)[1]
    assert (gpd.positive, gpd.judged, gpd.discharges, gpd.reviewed) == (True, (1, 9), (6, 7.5), (5, 9))
    assert (lpd.positive, lpd.discharges, lpd.reviewed) == (True, (), None)
    assert (lrda.positive, lrda.patient) == (False, "lrda_01")
    assert [what.split(":")[0] for what in missing] == ["vecams", "iiic", "snippets", "eegmat"]


@pytest.mark.parametrize(
    ("caption", "positive"),
    [
        ("Normal", False),
        ("GRDA (1), Diffuse delta (2)", False),
        ("LRDA (1), Absent sleep features (1), LPD (2)", True),
        ("GPD (4), Burst suppression (20)", True),
        ("Diffuse delta (2), BiPD (4)", True),
        ("NCSE (20)", False),
    ],
)
def test_a_caption_is_read_by_whole_words(tmp_path, caption, positive):
    write_segment(tmp_path / "discharges/vecams/eFig05.npz", signal(15), caption=caption)
    (item,) = read_sets(tmp_path)[0]["vecams"]
    assert (item.positive, item.judged) == (positive, (1, 14))


def test_of_iiic_the_labelled_seconds_count_and_of_a_seizure_nothing(tmp_path):
    for kind in ("gpd", "other", "sz"):
        path = tmp_path / f"discharges/iiic/{kind}.npz"
        write_segment(path, signal(50), kind=kind, labelled_seconds=np.array([20.0, 30.0]))
    items = read_sets(tmp_path)[0]["iiic"]
    assert [item.positive for item in items] == [True, False, None]
    assert {item.judged for item in items} == {(20, 30)}


def test_snippets_are_of_one_patient_and_recordings_of_a_person_too(tmp_path):
    for name, times in (("normal", ()), ("spike", (2.3, 2.6))):
        path = tmp_path / f"discharges/snippets/{name}.npz"
        write_segment(path, signal(5, times), kind=name, discharge_seconds=np.array(times))
    for name in ("Subject01_1", "Subject01_2", "Subject02_2"):
        write_healthy(tmp_path / f"eegmat/{name}.edf", 4)
    sets, _ = read_sets(tmp_path)
    assert [(i.positive, i.discharges) for i in sets["snippets"]] == [(False, ()), (True, (2.3, 2.6))]
    assert len({i.patient for i in sets["snippets"]}) == 1
    assert [i.patient for i in sets["eegmat"]] == ["Subject01", "Subject01", "Subject02"]
    assert all(i.positive is False and i.judged == (0, math.inf) for i in sets["eegmat"])
    assert [i.name for i in read_sets(tmp_path, leave_out=["Subject01"])[0]["eegmat"]] == ["Subject02_2"]
    sets, missing = read_sets(tmp_path, leave_out=["Subject01", "Subject02"])
    assert "eegmat" not in sets and missing[-1] == "eegmat: everybody is left out"
    with pytest.raises(ValueError, match=r"Subject03 cannot be left out: .*eegmat has no file of that name"):
        read_sets(tmp_path, leave_out=["Subject03"])


def test_an_item_is_read_with_the_electrodes_and_the_rate_that_are_asked_for(tmp_path):
    write_grond(tmp_path, "gpd_01", "gpd", discharges=(4,))
    write_healthy(tmp_path / "eegmat/Subject01_1.edf", 10, (4,))
    for (item,) in read_sets(tmp_path)[0].values():
        recording = item.open(("O2", "Cz"), 100.0)
        assert (recording.ch_names, recording.sfreq, recording.segments[0].n_times) == (("O2", "Cz"), 100, 1000)
        np.testing.assert_allclose(recording.read(0, 400, 401)[0, 1], 100, atol=2)  # 4 s, well inside the discharge


def test_where_nothing_is_and_where_a_file_is_broken_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"holds no set: grond: there is no discharges/grond/\*\.npz in"):
        read_sets(tmp_path)
    path = tmp_path / "discharges/grond/gpd_01.npz"
    write_segment(path, signal(10), kind="gpd")
    with pytest.raises(
        ValueError, match=r"gpd_01\.npz is no file of this set, or lacks an array: .*marked_from_second"
    ):
        read_sets(tmp_path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"gpd_01\.npz is no file of this set"):
        read_sets(tmp_path)


def test_the_miniatures_have_the_electrodes_in_order():
    assert signal(1).shape == (SFREQ, len(TEN_TWENTY))
