"""Golden inputs hold what a program must be able to tell: discharges, rhythms, electrodes that are absent."""

import numpy as np
import pytest

from siamese_jax.config.presets import PRESETS
from siamese_jax.export import golden
from siamese_jax.export.golden import PLACES, WINDOWS, golden_inputs
from siamese_jax.vocabulary import TEN_TWENTY


def test_every_scalp_electrode_has_a_place_of_its_own():
    assert set(PLACES) == set(TEN_TWENTY)
    assert len(set(PLACES.values())) == 19
    assert np.subtract(PLACES["F3"], PLACES["F4"]).tolist() == [0, -2] and PLACES["O1"][0] - PLACES["Fp1"][0] == 4


@pytest.mark.parametrize("preset", ["small", "paper", "ecg"])
def test_they_are_the_same_each_time_and_only_absent_electrodes_are_not_finite(preset):
    config = PRESETS[preset]
    first, again = golden_inputs(config), golden_inputs(config)
    shape = (WINDOWS, config.n_times + 2 * config.margin, len(config.data.ch_names))
    assert first["eeg"].shape == shape and first["eeg"].dtype == np.float32
    np.testing.assert_array_equal(first["eeg"], again["eeg"])
    assert np.isfinite(first["eeg"]).all(1).tolist() == first["present"].tolist()
    missing = (~first["present"]).sum(1)
    assert missing[0] == 0 and (np.diff(missing) >= 0).all() and missing[-1] >= shape[2] // 2
    assert np.nan_to_num(first["eeg"]).std(1)[first["present"]].min() > 5


def test_discharges_grow_from_none_about_another_electrode_each(monkeypatch):
    """What is left of the same inputs without them."""
    config = PRESETS["small"]
    with_them = golden_inputs(config)
    monkeypatch.setattr(golden, "DISCHARGE_UV", 0.0)
    discharges = with_them["eeg"] - golden_inputs(config)["eeg"]
    depth = -np.nan_to_num(discharges).min(1)
    assert depth[0].max() == 0
    largest = {config.data.ch_names[channel] for channel in depth[1:].argmax(1)}
    assert len(largest) == WINDOWS - 1
    assert (np.diff(depth.max(1)) > 0).all() and 190 < depth.max() < 210
    seen = discharges[2][:, depth[2].argmax()]
    spikes = np.flatnonzero((seen[1:-1] < seen[:-2]) & (seen[1:-1] < seen[2:]) & (seen[1:-1] < -0.3 * depth[2].max()))
    assert len(spikes) >= 4
    places = [np.array(PLACES[name]) for name in config.data.ch_names]
    focus = places[depth[3].argmax()]
    near = [i for i, place in enumerate(places) if np.abs(place - focus).max() <= 1 and with_them["present"][3, i]]
    far = [i for i, place in enumerate(places) if np.abs(place - focus).max() >= 3 and with_them["present"][3, i]]
    assert depth[3][near].min() > 0.3 * depth[3].max() and depth[3][far].max() < 0.02 * depth[3].max()


def test_channels_off_the_scalp_have_beats():
    config = PRESETS["ecg"]
    eeg = golden_inputs(config)["eeg"]
    assert np.ptp(np.nan_to_num(eeg), axis=1).max() > 500
