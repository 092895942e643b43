import numpy as np
import pytest

from experiments.sweep.runs import REFERENCE, ablated, compared, runs, siamese_es, varied
from siamese_jax.config.experiment import differences
from siamese_jax.models.build import MODELS
from siamese_jax.signals.converter import frequencies

SCALES = ("reduced", "published")


@pytest.mark.parametrize("scale", SCALES)
def test_the_compared_networks_differ_in_nothing_but_network_and_its_input(scale):
    found = compared(scale)
    assert set(found) >= {REFERENCE, "eegnet", "cnn_lstm", "vgg16", "eegformer", "aied", "nepinet", "spikenet"}
    for run in found.values():
        assert run.config.training == siamese_es(scale).training
        assert run.config.data.window_seconds == siamese_es(scale).data.window_seconds
        assert run.config.data.sfreq == siamese_es(scale).data.sfreq
        assert run.config.model.name in MODELS
        assert run.pretrained is None
        assert not run.shuffles_states


def test_the_reduced_inputs_are_as_declared():
    for run in compared("reduced").values():
        assert len(run.config.data.ch_names) == 19
        assert run.config.sfreq == 128.0
        assert len(frequencies(run.config)) <= 36


def test_published_inputs_are_the_published_ones():
    config = siamese_es("published")
    assert (len(frequencies(config)), config.n_frames) == (129, 126)
    assert [compared("published")[name].config.sfreq for name in ("eegnet", "cnn_lstm", "spikenet")] == [128.0] * 3
    assert {run.config.model.width for run in compared("published").values()} == {1.0}


@pytest.mark.parametrize("scale", SCALES)
def test_each_variation_changes_what_its_name_says_and_no_more(scale):
    full = siamese_es(scale)
    for name, run in varied(scale).items():
        changed = differences(full, run.config)
        assert changed, name
        assert len({path.split(".")[0] for path in changed}) == 1, name
        assert len(changed) == {"converter_multi_resolution": 2, "no_augmentation": 3}.get(name, 1), name


def test_ablations_are_those_of_the_blueprint():
    full, found = siamese_es("reduced"), ablated("reduced")
    changed = {name: set(differences(full, run.config)) for name, run in found.items()}
    assert changed == {
        REFERENCE: set(),
        "A_electron_only": {"tasks", "model.fusion"},
        "B_sleep_loss_off": {"training.task_weights"},
        "C_sleep_frozen": {"model.shared_stages", "training.task_weights", "freeze"},
        "F_gradient_stopped": {"model.stop_sleep_gradient"},
        "not_fused": {"model.fusion"},
        "states_shuffled": set(),
        "shared_0": {"model.shared_stages"},
    }
    assert found["states_shuffled"].shuffles_states
    assert found["C_sleep_frozen"].pretrained.tasks == ("sleep",)


@pytest.mark.parametrize("scale", SCALES)
def test_names_and_questions_are_distinct(scale):
    found = runs(scale)
    assert all(name == run.name for name, run in found.items())
    assert len({run.question for run in found.values()}) == len(found)
    assert len(np.unique([run.config.to_json() for run in found.values() if not run.shuffles_states])) == len(found) - 1
