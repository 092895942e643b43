"""The head against closed forms, symmetry and what every textbook shows."""

import numpy as np
import pytest

from data_tools.simulator.head import (
    HEAD_RADIUS_CM,
    LEAD_POSITIONS,
    SCALP_LEADS,
    Head,
    SkullDefect,
    _series,
    direction,
    lead_positions,
    shell_transfer,
)
from siamese_jax.vocabulary import LEADS_29, LEFT_RIGHT, POSITIONS, TEN_TWENTY, channel_kind

EEG = tuple(name for name in LEADS_29 if channel_kind(name) == "eeg")
HOMOGENEOUS = Head(conductivity_s_per_m=(0.33,) * 4)


def homogeneous_sphere(position, moment_nam, leads, conductivity=0.33):
    """Closed form: the gradient, by the source's place, of the sphere's Neumann function on its surface,
    2 / d + log(2 / (1 - r.r0 + d))."""
    apart = leads - position
    d = np.linalg.norm(apart, axis=1, keepdims=True)
    gradient = 2 * apart / d**3 + (leads + apart / d) / (1 - (leads @ position)[:, None] + d)
    return gradient @ moment_nam * 1e-3 / (4 * np.pi * conductivity * (HEAD_RADIUS_CM / 100) ** 2)


def random_dipoles(n, radius=0.83):
    rng = np.random.default_rng(0)
    places, moments = rng.standard_normal((2, n, 3))
    return radius * places / np.linalg.norm(places, axis=1, keepdims=True), 10 * moments


@pytest.mark.parametrize("radius", [0.05, 0.5, 0.83])
def test_equal_conductivities_give_the_closed_form_of_a_homogeneous_sphere(radius):
    places, moments = random_dipoles(20, radius)
    field = HOMOGENEOUS.lead_field(places, moments, EEG)
    for i in range(20):
        expected = homogeneous_sphere(places[i], moments[i], lead_positions(EEG))
        np.testing.assert_allclose(field[:, i], expected, atol=1e-6)


def test_potential_and_current_are_continuous_and_none_leaves_the_scalp():
    """An independent solution of the same shells: all boundary conditions of a degree as one linear system."""
    radii, sigma = Head().radii, Head().conductivity_s_per_m
    for n in (1, 2, 5, 20):
        system, right = np.zeros((7, 7)), np.zeros(7)  # a of the brain, a and b of the other three; b of the brain 1
        column = {0: (0, None), 1: (1, 2), 2: (3, 4), 3: (5, 6)}
        for i in range(3):
            r = radii[i]
            for shell, sign in ((i, 1), (i + 1, -1)):
                a, b = column[shell]
                system[2 * i, a] += sign
                system[2 * i + 1, a] += sign * sigma[shell] * n
                if b is None:
                    right[2 * i] -= sign * r ** -(2 * n + 1)
                    right[2 * i + 1] += sign * sigma[shell] * (n + 1) * r ** -(2 * n + 1)
                else:
                    system[2 * i, b] += sign * r ** -(2 * n + 1)
                    system[2 * i + 1, b] -= sign * sigma[shell] * (n + 1) * r ** -(2 * n + 1)
        system[6, 5], system[6, 6] = n, -(n + 1)
        solution = np.linalg.solve(system, right)
        given = shell_transfer(radii, sigma)[n - 1] * (2 * n + 1) / n
        assert given == pytest.approx(solution[5] + solution[6], rel=1e-6)


def test_the_skull_weakens_and_smears():
    names = ("Cz", "C3", "T3")
    place, moment = np.array([[0, 0, 0.83]]), np.array([[0, 0, 10.0]])
    layered, bare = Head().lead_field(place, moment, names)[:, 0], HOMOGENEOUS.lead_field(place, moment, names)[:, 0]
    assert 0 < layered[0] < 0.5 * bare[0]
    assert layered[1] / layered[0] > 1.2 * bare[1] / bare[0]


def test_mirrored_dipoles_give_mirrored_fields():
    places, moments = random_dipoles(10)
    flip = np.array([-1, 1, 1])
    other = tuple({**LEFT_RIGHT, **{right: left for left, right in LEFT_RIGHT.items()}}.get(name, name) for name in EEG)
    here, there = (
        Head().lead_field(places, moments, EEG),
        Head().lead_field(places * flip, moments * flip, other),
    )
    np.testing.assert_allclose(here, there, rtol=1e-9)


def test_fields_add_up_and_a_head_has_no_net_potential():
    places, moments = random_dipoles(5)
    once, twice = (Head().lead_field(places, factor * moments, EEG) for factor in (1, -2))
    np.testing.assert_allclose(twice, -2 * once)
    # Over the whole sphere a dipole's potential is 0 on average: a Fibonacci lattice stands for all of it.
    k = np.arange(4000) + 0.5
    z = 1 - 2 * k / 4000
    series, _ = _series(z[:, None], np.array([0.8]), shell_transfer(Head().radii, Head().conductivity_s_per_m))
    assert abs(series.mean()) < 1e-3 * np.abs(series).max()


def test_depth_widens_a_field_and_weakens_it():
    def width(depth):
        field = Head().patch_field((0, 0, 1), 2.0, ("Cz", "C3", "T3"), depth_cm=depth)
        return field[1] / field[0]

    assert width(1.6) < 0.8 * width(4.0) < 0.8 * width(6.0)
    deep, shallow = (Head().lead_field(np.array([[0, 0, r]]), np.array([[0, 0, 1.0]]), ("Cz",)) for r in (0.4, 0.83))
    assert deep < 0.3 * shallow


def test_a_radial_patch_has_one_pole_and_a_tangential_one_two():
    centre = direction(-0.7, 0.2)
    radial = Head().patch_field(centre, 4.0, TEN_TWENTY)
    assert radial.max() == pytest.approx(1.0) and radial.min() > -0.3
    assert TEN_TWENTY[radial.argmax()] in ("C3", "T3", "F7", "F3")
    tangential = Head().patch_field((0, 0, 1), 3.0, TEN_TWENTY, orientation=(0, 1, 0))
    by_name = dict(zip(TEN_TWENTY, tangential, strict=True))
    assert by_name["Fz"] > 0.5 and by_name["Pz"] < -0.5 and abs(by_name["Cz"]) < 0.05
    assert by_name["Fz"] == pytest.approx(-by_name["Pz"], rel=0.02)


def test_a_larger_patch_has_a_wider_field():
    small, large = (Head().patch_field(LEAD_POSITIONS["C3"], extent, TEN_TWENTY) for extent in (3.0, 14.0))
    assert (np.abs(large) > 0.5).sum() > (np.abs(small) > 0.5).sum()


def test_ears_see_the_temporal_lobe_and_patches_know_no_order_of_leads():
    names = ("A1", "T3", "A2", "Cz")
    left = Head().patch_field((-0.95, 0.1, -0.2), 4.0, names)
    assert left[0] > 0.5 and left[0] > 3 * abs(left[2])
    np.testing.assert_allclose(Head().patch_field((-0.95, 0.1, -0.2), 4.0, names[::-1]), left[::-1])


def test_a_skull_defect_lets_more_through_near_it_and_most_of_what_is_fast():
    broken = Head(defect=SkullDefect(LEAD_POSITIONS["C4"], gain=3.0))
    gain = broken.breach_gain(("C4", "P4", "T3"), np.array([0.0, 2.0, 20.0]))
    np.testing.assert_allclose(gain[0], [2.0, 2.2, 3.0])
    assert 1.05 < gain[1, 2] < 2 and gain[2, 2] < 1.001
    assert (Head().breach_gain(EEG, np.array([1.0])) == 1).all()
    whole, breached = (head.patch_field(LEAD_POSITIONS["Cz"], 4.0, TEN_TWENTY) for head in (Head(), broken))
    np.testing.assert_allclose(breached, whole * broken.breach_gain(TEN_TWENTY, np.array([10.0]))[:, 0])


def test_positions_are_those_of_the_10_20_system():
    assert set(LEAD_POSITIONS) == set(EEG) and set(SCALP_LEADS) == set(TEN_TWENTY)
    np.testing.assert_allclose(np.linalg.norm(lead_positions(EEG), axis=1), 1.0)
    for name, place in POSITIONS.items():  # the flat map, independently noted, agrees to within 10 degrees
        assert np.dot(direction(*place), LEAD_POSITIONS[name]) > np.cos(np.radians(10)), name
    for left, right in LEFT_RIGHT.items():
        x, y, z = LEAD_POSITIONS[left]
        np.testing.assert_allclose(LEAD_POSITIONS[right], (-x, y, z), atol=1e-12)
    with pytest.raises(KeyError):
        lead_positions(("ECG1",))
