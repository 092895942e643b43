"""Fields of patches: scale, sum, tilt, shift, muscle, skull defect."""

import numpy as np
import pytest

from data_tools.simulator.head import Head, SkullDefect
from data_tools.simulator.patches import Patch, field
from siamese_jax.vocabulary import LEADS_29, TEN_TWENTY

EEG = LEADS_29[:23]
STILL = np.zeros(3)


def of(*patches, head=None, ch_names=EEG, shift=STILL, **how):
    return dict(zip(ch_names, field(patches, head or Head(), ch_names, shift=shift, **how), strict=True))


def test_a_radial_patch_is_the_head_s_own_field():
    patch = Patch(("C3", "P3"), 6.0)
    expected = Head().patch_field(tuple(patch.centre.tolist()), 6.0, EEG)
    assert np.array(list(of(patch).values())) == pytest.approx(expected)


def test_fields_add_up_and_are_scaled_by_the_scalp_leads():
    left, right = Patch(("O1",), 5.0), Patch(("O2",), 5.0, 0.5)
    both, one, other = (np.array(list(of(*patches).values())) for patches in ((left, right), (left,), (right,)))
    total = one + 0.5 * other
    assert both == pytest.approx(total / np.abs(total[:19]).max())
    # The scale does not depend on which leads are asked for.
    assert of(left, ch_names=("Fz", "A1"))["A1"] == pytest.approx(of(left)["A1"])


def test_a_tilted_patch_is_a_dipole_across_the_place():
    upright, tilted = of(Patch(("C3", "T3"), 4.0)), of(Patch(("C3", "T3"), 4.0, tilt=1.2, towards="P3"))
    assert abs(upright["F3"] - upright["P3"]) < 0.1
    assert tilted["P3"] > 0.3 and tilted["F3"] < 0 and tilted["F7"] < 0


def test_a_shift_moves_the_maximum():
    centred, moved = of(Patch(("Cz",), 6.0)), of(Patch(("Cz",), 6.0), shift=np.array([0.0, 0.5, 0.0]))
    assert max(centred, key=centred.get) == "Cz" and moved["Fz"] > centred["Fz"] + 0.2


def test_a_muscle_s_field_stays_near_it():
    muscle = of(Patch(("T3",), 3.0, muscle=True), ch_names=TEN_TWENTY)
    assert muscle["T3"] == 1 and 0 < muscle["F7"] < 0.5 and muscle["T4"] < 1e-3
    assert min(muscle.values()) >= 0


def test_a_hole_in_the_skull_magnifies_the_brain_but_no_muscle():
    head = Head(defect=SkullDefect(tuple(np.array([-0.7, 0.0, 0.7]).tolist()), 2.5))
    brain, fast, slow = of(Patch(("C3",), 6)), *(of(Patch(("C3",), 6), head=head, frequency_hz=hz) for hz in (20, 1))
    assert fast["C3"] > slow["C3"] > 1.3 * brain["C3"]
    assert fast["O2"] == pytest.approx(brain["O2"], rel=0.01)
    muscle = Patch(("C3",), 3, muscle=True)
    assert of(muscle, head=head) == of(muscle)
