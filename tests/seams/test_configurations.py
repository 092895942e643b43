"""Configuration -> network, schedule, filter: what can be constructed can be built; what cannot is refused in words."""

import dataclasses
import itertools
import random
import types
import typing
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.config.sections import LEAST_SAMPLES
from siamese_jax.pipeline import initialise
from siamese_jax.signals.augment import augment
from siamese_jax.signals.preprocess import filter_taps
from siamese_jax.training.step import learning_rate, make_optimizer
from siamese_jax.vocabulary import IED, SLEEP, channel_kind

SECTIONS = ("data", "preprocess", "converter", "model", "training")
SHAPES = {
    *("data.ch_names", "data.sfreq", "data.window_seconds", "preprocess.sfreq", "preprocess.filter_half_seconds"),
    *("preprocess.montage", "converter.kind", "converter.n_fft", "converter.hop", "converter.band_hz"),
    *("model.name", "model.width", "model.dilations", "model.shared_stages", "model.fusion", "model.pooling"),
}
"""Fields that decide the shape of something: with these, the network is traced (a quarter of a second each)."""
SINGLE = {"fusion": "none", "pooling": "average"}
NUMBERS = {
    float: (0.0, -1.0, 1e-30, 0.5, 1e9, 1e30, 1e300, float("nan"), float("inf"), True),
    int: (0, -1, 1, 3, 1 << 31, 1 << 62, 1 << 63, True),
    bool: (True, False),
    str: ("", "X9", "\0"),
}


def extremes(kind):
    """Values of a field's type that lie at its ends, and beyond."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return list(arguments)
    if origin in (types.UnionType, typing.Union):
        return [None, *(value for a in arguments if a is not type(None) for value in extremes(a))]
    if origin is not tuple:
        return list(NUMBERS[kind])
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [
            (),
            *((value,) for value in extremes(arguments[0])),
            *((value,) * 3 for value in extremes(arguments[0])),
        ]
    return list(itertools.product(*(extremes(a)[:6] for a in arguments)))


def changes(config):
    """Each field of each section with each of its extremes."""
    for section in SECTIONS:
        for name, kind in typing.get_type_hints(type(getattr(config, section))).items():
            yield from ((section, name, value) for value in extremes(kind))


def made(config, *edits):
    """The configuration with some fields changed, or None if it is refused, with a sentence."""
    try:
        for section, name, value in edits:
            part = dataclasses.replace(getattr(config, section), **{name: value})
            config = dataclasses.replace(config, **{section: part})
    except ValueError as error:
        assert len(str(error)) > 20
        return None
    return config


def check_filters(config):
    for kind in {channel_kind(name) for name in config.data.ch_names}:
        assert np.isfinite(filter_taps(config, kind)).all()


def check_network(config):
    """All that training does with a window, but for the arithmetic."""
    length, n_chans = config.n_times + 2 * config.margin, len(config.data.ch_names)
    eeg = jax.ShapeDtypeStruct((1, length + 2 * config.shift, n_chans), jnp.float32)
    present = jax.ShapeDtypeStruct((1, n_chans), bool)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    varied, _ = jax.eval_shape(partial(augment, config), eeg, present, keys)
    assert varied.shape == (1, length, n_chans)
    variables = jax.eval_shape(partial(initialise, config, (IED, SLEEP)), jax.eval_shape(jax.random.key, 0))
    assert variables["params"]


def check_trains(config):
    """Rates are finite at each end of the schedule, and a parameter without a gradient stays as it is."""
    training = config.training
    rates = [learning_rate(training)(step) for step in (0, training.warmup_steps, training.steps - 1, training.steps)]
    assert np.isfinite(rates).all() and min(rates) >= 0
    weight = {"w": jnp.ones(2)}
    optimizer = make_optimizer(training, decayed=True)
    update, _ = optimizer.update({"w": jnp.zeros(2)}, optimizer.init(weight), weight)
    assert np.isfinite(update["w"]).all()
    jax.random.key(training.seed), np.random.default_rng(training.seed)


def check(config, fields):
    check_filters(config)
    if any(field.startswith("training.") for field in fields):
        check_trains(config)
    if SHAPES & fields:
        check_network(config)


def test_each_field_at_its_extremes_is_refused_or_can_be_built(tiny):
    refused, built = [], []
    for edit in changes(tiny):
        found = made(tiny, edit)
        (refused if found is None else built).append(edit)
        if found is not None:
            check(found, {f"{edit[0]}.{edit[1]}"})
    assert len(refused) > 300 and len(built) > 100


def test_pairs_of_fields_are_refused_or_can_be_built(tiny):
    """One field among its possible extremes, then another: 400 of the pairs, of which few are traced."""
    rng = random.Random(0)
    edits = [edit for edit in changes(tiny) if made(tiny, edit) is not None]
    traced = 0
    for one, two in (rng.sample(edits, 2) for _ in range(400)):
        found = made(tiny, one, two)
        if found is not None:
            fields = {f"{section}.{name}" for section, name, _ in (one, two)}
            both = fields <= SHAPES and traced < 8
            traced += both
            check(found, fields if both else fields - SHAPES)
    assert traced == 8


@pytest.mark.parametrize("name", LEAST_SAMPLES)
def test_the_least_window_of_a_network_of_raw_rows_is_its_least(tiny, name):
    """The table in the configuration and the network itself agree."""
    kinds = {"model": dataclasses.replace(tiny.model, name=name, **SINGLE)}
    kinds |= {"converter": dataclasses.replace(tiny.converter, kind="none"), "tasks": ("ied",)}

    def of(samples):
        data = dataclasses.replace(tiny.data, window_seconds=samples / 100)
        return dataclasses.replace(tiny, data=data, **kinds)

    least = LEAST_SAMPLES[name]
    check_network(of(least))
    if least == 1:
        return
    with pytest.raises(ValueError, match=f"model.name='{name}' needs {least} samples or more, and data.window_seconds"):
        of(least - 1)
    shorter = of(least)
    object.__setattr__(shorter.data, "window_seconds", (least - 1) / 100)
    with pytest.raises((ValueError, TypeError)):
        check_network(shorter)
