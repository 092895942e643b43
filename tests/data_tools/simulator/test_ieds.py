"""One patient's IEDs: how often, where from, of which kinds; and how the cohort's regions are shared out."""

import numpy as np
import pytest

from data_tools.simulator import ieds
from data_tools.simulator.head import LEAD_POSITIONS, SCALP_LEADS, Head
from data_tools.simulator.ieds import KINDS, REGIONS, draw_ied, draw_regions, mirror
from data_tools.simulator.patches import field
from siamese_jax.vocabulary import TEN_TWENTY


def ied(region, seed=0, *, age_years=30.0, density=1.0):
    return draw_ied(region, np.random.default_rng([seed, 1]), age_years=age_years, density=density)


def focus_field(focus):
    return dict(
        zip(TEN_TWENTY, field(focus.patches, Head(), TEN_TWENTY, shift=np.array(focus.shift)), strict=True)
    )  # upwards where the spike is negative


# --- how often ----------------------------------------------------------------------------------------------


def test_sleep_activates_ieds_as_in_vepiset():
    for name, region in REGIONS.items():
        rates = ied(name).per_minute
        asleep = np.mean([rates[stage] for stage in ("N1", "N2", "N3")])
        assert asleep / rates["W"] == pytest.approx(region.sleep_to_wake)
        assert rates["R"] < rates["W"] and rates["N3"] > rates["N2"]
    # 3.2: generalised 501 of 13,439 windows asleep and 72 of 11,775 awake.
    assert REGIONS["generalized"].sleep_to_wake == pytest.approx(6.097, abs=0.01)


def test_patients_rates_spread_widely_and_grow_with_density():
    rates = np.array([ied("temporal", seed).per_minute["N2"] for seed in range(400)])
    low, high = np.percentile(rates, [25, 75])
    assert 4 < high / low < 8.5  # vEpiSet: 72 windows over 9
    dense = np.array([ied("temporal", seed, density=2.0).per_minute["N2"] for seed in range(400)])
    assert np.median(dense / rates) == pytest.approx(2)
    assert dense.max() / rates.max() < 2  # clipped


def test_regions_come_in_vepiset_s_proportions():
    patients = draw_regions(300, ied_free=0.2, rng=np.random.default_rng(0))
    assert patients.count(None) == 60
    for name, region in REGIONS.items():
        windows = region.windows_wake + region.windows_sleep
        assert abs(patients.count(name) - 240 * windows / 2503) <= 1
    assert patients[:60] != [None] * 60  # in random order
    assert draw_regions(3, ied_free=1.0, rng=np.random.default_rng(0)) == [None] * 3


def test_an_unknown_region_is_refused():
    with pytest.raises(KeyError):
        ied("parietal")


# --- which shape --------------------------------------------------------------------------------------------


def test_a_focal_patient_has_a_main_kind_and_a_generalised_one_spike_and_wave_alone():
    mains = []
    for seed in range(300):
        focal = ied("frontal", seed)
        assert sum(focal.kinds.values()) == pytest.approx(1)
        assert focal.kinds[focal.kind] == max(focal.kinds.values()) >= 0.6
        mains.append(focal.kind)
    for kind, share in KINDS.items():
        assert mains.count(kind) / 300 == pytest.approx(share, abs=0.08)
    assert ied("generalized").kinds == {**dict.fromkeys(KINDS, 0.0), "spike-and-wave": 1.0}


def test_amplitude_over_background_has_a_median_of_three_and_children_have_more():
    def snr(region, age):
        return np.array([ied(region, seed, age_years=age).snr for seed in range(300)])

    assert np.median(snr("temporal", 30.0)) == pytest.approx(3.0, rel=0.06)
    assert np.std(np.log(snr("temporal", 30.0))) == pytest.approx(0.25, rel=0.15)
    assert snr("temporal", 6.0) == pytest.approx(1.3 * snr("temporal", 30.0))
    assert np.median(snr("generalized", 30.0)) == pytest.approx(6.0, rel=0.06)


# --- where --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["frontal", "temporal", "centro-parietal", "occipital"])
def test_a_focus_has_its_maximum_near_its_electrode(region):
    nearest = 0
    for seed in range(60):
        for focus in ied(region, seed).foci:
            assert focus.region == region and focus.lead in REGIONS[region].electrodes
            values = focus_field(focus)
            lead = max(values, key=values.get)
            nearest += lead == focus.lead
            cosine = {name: np.dot(LEAD_POSITIONS[name], LEAD_POSITIONS[focus.lead]) for name in SCALP_LEADS}
            assert cosine[lead] > np.cos(np.radians(55))  # the next electrode at most
            assert all(abs(values[name]) < 0.6 for name in SCALP_LEADS if cosine[name] < 0)
    assert nearest > 50


def test_a_rolandic_dipole_is_negative_centro_temporal_and_positive_frontal():
    tilted = 0
    for seed in range(60):
        for focus in ied("centro-parietal", seed, age_years=8.0).foci:
            (patch,) = focus.patches
            if focus.lead not in ("C3", "C4") or patch.tilt < ieds.ROLANDIC_TILT.low:
                continue
            tilted += 1
            spike = {name: -value for name, value in focus_field(focus).items()}
            central, front = ("C3", ("Fp1", "F7", "F3")) if focus.lead == "C3" else ("C4", ("Fp2", "F8", "F4"))
            assert spike[central] < -0.5
            assert max(spike[name] for name in front) > 0.15
    assert tilted > 10
    upright = [focus.patches[0].tilt for seed in range(60) for focus in ied("centro-parietal", seed).foci]
    assert np.mean(np.array(upright) < 0.8) > 0.8  # of adults


def test_a_generalised_field_is_wide_frontal_and_nearly_symmetrical():
    for seed in range(20):
        (focus,) = ied("generalized", seed).foci
        values = focus_field(focus)
        assert max(values, key=values.get) == "Fz" and min(values["F3"], values["F4"]) > 0.5
        for left, right in (("F3", "F4"), ("Fp1", "Fp2"), ("C3", "C4")):
            assert values[left] == pytest.approx(values[right], abs=0.2)
        assert focus.spread


def test_some_patients_have_two_foci_and_most_foci_spread():
    patients = [ied("temporal", seed) for seed in range(300)]
    two = [patient.foci for patient in patients if len(patient.foci) == 2]
    assert len(two) / 300 == pytest.approx(ieds.SECOND_FOCUS_SHARE, abs=0.06)
    for first, second in two:
        assert first.share + second.share == pytest.approx(1) and first.share >= 0.5
        assert first.lead != second.lead
    mirrored = np.mean([second.lead == mirror(first.lead) for first, second in two])
    assert 0.4 < mirrored < 0.8
    foci = [focus for patient in patients for focus in patient.foci]
    assert np.mean([bool(focus.spread) for focus in foci]) == pytest.approx(ieds.PROPAGATION_SHARE, abs=0.08)
    assert all(0 < focus.spread_seconds <= 0.02 and 0 < focus.spread_gain < 1 for focus in foci)


def test_mirrored_electrodes():
    assert (mirror("F7"), mirror("T6"), mirror("Cz")) == ("F8", "T5", "Cz")
