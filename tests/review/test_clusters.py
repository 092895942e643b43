"""Groups of events by focus: known fields come back, whatever their size and order."""

import numpy as np
import pytest

from siamese_jax.recordings.recording import Segment, recording_from_array
from siamese_jax.review.clusters import OTHERS, fields, focus, groups, nearest
from siamese_jax.vocabulary import POSITIONS, TEN_TWENTY

SFREQ = 200.0


def field_at(name, spread=0.6):
    """A negativity around an electrode, against the average."""
    places = np.array([POSITIONS[e] for e in TEN_TWENTY])
    potential = -np.exp(-(((places - POSITIONS[name]) ** 2).sum(1)) / spread**2)
    return potential - potential.mean()


def events(*counts, noise=0.2, seed=0):
    """So many events at each electrode, of any size, shuffled; which they are of."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(counts)), [n for _, n in counts])
    rng.shuffle(truth)
    made = np.stack([field_at(name) for name, _ in counts])[truth] * rng.uniform(20, 200, (len(truth), 1))
    made += noise * np.linalg.norm(made, axis=1, keepdims=True) * rng.normal(size=made.shape) / np.sqrt(19)
    return made, truth, rng.random(len(truth))


def test_each_focus_is_a_group_and_the_largest_comes_first():
    made, truth, probability = events(("O2", 20), ("F7", 60), ("Cz", 35))
    np.testing.assert_array_equal(groups(made, probability), np.array([2, 0, 1])[truth])


def test_polarity_tells_groups_apart_and_size_does_not():
    one, probability = field_at("T3"), np.full(8, 0.9)
    made = one * np.array([10, 20, 40, 300, -10, -20, -30, -40.0])[:, None]
    np.testing.assert_array_equal(groups(made, probability), [0, 0, 0, 0, 1, 1, 1, 1])


def test_events_like_no_others_are_no_group():
    made, truth, probability = events(("F7", 10), ("O2", 1))
    np.testing.assert_array_equal(groups(made, probability), np.where(truth == 0, 0, OTHERS))
    assert groups(np.zeros((0, 19)), np.zeros(0)).shape == (0,)
    assert groups(np.zeros((3, 19)), np.ones(3)).tolist() == [OTHERS] * 3  # no field at all


def test_groups_do_not_depend_on_the_order_of_events():
    made, _, probability = events(("F8", 30), ("T5", 20), ("Pz", 10), noise=0.4)
    order = np.random.default_rng(1).permutation(len(made))
    np.testing.assert_array_equal(groups(made, probability)[order], groups(made[order], probability[order]))


def test_an_event_outside_of_the_groups_joins_the_one_that_it_is_like():
    means = [field_at("F7"), field_at("O2")]
    assert nearest(3 * field_at("O2"), means) == 1
    assert nearest(-field_at("O2"), means) == OTHERS
    assert nearest(field_at("O2"), []) == OTHERS


@pytest.mark.parametrize(
    ("name", "side"), [("F7", "left"), ("T4", "right"), ("Cz", "midline"), ("O1", "left"), ("Fz", "midline")]
)
def test_a_focus_has_the_name_the_side_and_the_polarity_of_its_field(name, side):
    found = focus(80 * field_at(name), TEN_TWENTY)
    assert (found.name.split("-")[0], found.side, found.polarity) == (name, side, "negative")
    assert focus(-80 * field_at(name), TEN_TWENTY)[1:] == (side, "positive")


def test_two_electrodes_of_like_potential_name_the_focus_both():
    potential = np.zeros(19)
    potential[[TEN_TWENTY.index("F7"), TEN_TWENTY.index("T3")]] = -100, -90
    assert focus(potential, TEN_TWENTY).name == "F7-T3"


def test_a_field_is_the_peak_against_average_and_baseline_also_behind_a_gap_and_at_an_end():
    eeg = np.full((2000, 19), 500.0, np.float32)  # a steady offset is no field
    for peak in (1, 700, 1999):
        eeg[max(peak - 2, 0) : peak + 3, TEN_TWENTY.index("C3")] -= 190
    names = {"ch_names": TEN_TWENTY, "target_ch_names": TEN_TWENTY}
    recording = recording_from_array(eeg, sfreq=SFREQ, target_sfreq=SFREQ, **names)
    expected = np.full(19, 10.0)
    expected[TEN_TWENTY.index("C3")] = -180
    np.testing.assert_allclose(fields(recording, [0.005, 3.5, 9.995], TEN_TWENTY), [expected] * 3, atol=1e-3)
    assert recording.segments == (Segment(0.0, 2000),)
