"""Configuration: geometry by hand, JSON round trip, and what is refused."""

import dataclasses
import json
import typing

import pytest

from siamese_jax.config.experiment import (
    Config,
    ConverterConfig,
    DataConfig,
    ModelConfig,
    PreprocessConfig,
    TrainingConfig,
)
from siamese_jax.config.presets import ECG, PAPER, PRESETS, SMALL
from siamese_jax.config.sections import LEAST_SAMPLES

SINGLE = {"fusion": "none", "pooling": "average"}
"""What a network of one trunk needs."""


def changed(config=SMALL, **sections):
    new = {k: dataclasses.replace(getattr(config, k), **v) if isinstance(v, dict) else v for k, v in sections.items()}
    return dataclasses.replace(config, **new)


def test_paper_geometry_is_the_published_one():
    assert (PAPER.n_times, PAPER.n_frames, len(PAPER.data.ch_names)) == (2000, 126, 29)
    assert PAPER.context == 128  # half of n_fft: frames centred on the first and last samples
    assert PAPER.frame_seconds == 32 * 16 / 500  # the backbone keeps one of 32 frames, 16 samples apart


def test_small_geometry():
    # 4 s at 200 Hz in hops of 10; the network's kernels reach 1 + 1 + 2 + 4 + 8 frames to each side
    assert (SMALL.n_times, SMALL.n_frames, SMALL.frame_seconds) == (800, 81, 0.05)
    assert SMALL.context == 16 + 16 * 10
    assert SMALL.filter_half == 400


def test_ecg_is_ten_seconds_of_twelve_leads_as_they_are():
    assert (ECG.n_times, ECG.n_frames, len(ECG.data.ch_names)) == (1000, 1000, 12)
    assert (ECG.context, ECG.filter_half, ECG.tasks) == (0, 200, ("diagnosis",))
    assert ECG.training.flip == 0 and ECG.preprocess.montage == "referential"  # no mirror image, no scalp


@pytest.mark.parametrize("name", PRESETS)
def test_margins_cover_filter_and_context_and_make_lengths_that_ffts_like(name):
    config = PRESETS[name]
    assert config.margin >= config.filter_half + config.context
    n = config.n_times + 2 * config.margin
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    assert n == 1


def test_a_lowered_rate_keeps_everything_on_whole_samples():
    config = changed(data={"sfreq": 500.0}, preprocess={"sfreq": 200.0})
    assert (config.n_times, config.n_times_out) == (2000, 800)
    # 500 Hz -> 200 Hz: only every fifth input sample falls on an output sample
    assert config.margin % 5 == 0 and config.filter_half % 5 == 0
    assert (config.margin - config.filter_half) * 2 / 5 >= config.context
    # 512 Hz -> 200 Hz: every 64th; neither 2.003 s nor the next FFT-friendly length is whole by itself
    config = changed(data={"sfreq": 512.0}, preprocess={"sfreq": 200.0, "filter_half_seconds": 2.003})
    assert config.filter_half == 17 * 64 and config.margin % 64 == 0


def test_a_ratio_of_rates_with_a_large_prime_has_a_margin_too():
    """700 Hz -> 200 Hz: every length is a multiple of 7, so none is of 2, 3 and 5 alone."""
    config = changed(data={"sfreq": 700.0}, preprocess={"sfreq": 200.0})
    assert config.margin % 7 == 0 and config.margin >= config.filter_half + config.context * 7 / 2
    assert (config.n_times + 2 * config.margin) // 7 == 1000


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    config = PRESETS[name]
    assert Config.from_json(config.to_json()) == config
    assert hash(Config.from_json(config.to_json())) == hash(config)


def test_a_partial_json_takes_defaults_and_an_unknown_key_is_refused():
    assert Config.from_json('{"model": {"fusion": "gated"}}') == changed(model={"fusion": "gated"})
    with pytest.raises(ValueError, match=r"config.training has unknown keys \['epochs'\]"):
        Config.from_json('{"training": {"epochs": 3}}')


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.fusion", "sum", r"config.model.fusion must be one of .*, given 'sum'"),
        ("model.dropout", "high", r"config.model.dropout must be float, given 'high'"),
        ("training.steps", 2.5, r"config.training.steps must be int, given 2.5"),
        ("training.steps", True, r"config.training.steps must be int, given True"),
        ("data.ch_names", "Cz", r"config.data.ch_names must be a list"),
        ("data.ch_names", [1], r"config.data.ch_names\[0\] must be str, given 1"),
        ("preprocess.eeg_band_hz", [1], r"must have 2 items"),
        ("model", 3, r"config.model must be an object"),
        ("model.dropout", float("nan"), r"config.model.dropout must be a finite number, given nan"),
        ("training.learning_rate", 10**400, r"config.training.learning_rate must be a finite number, given inf"),
        ("training.steps", 1 << 63, r"config.training.steps must be a whole number of 64 bits"),
        ("data.ch_names", ["\x1b[2J"], r"config.data.ch_names\[0\] must be printable"),
        ("data.ch_names", ["Cz" * 101], r"config.data.ch_names\[0\] must be printable text of 200 characters at most"),
    ],
)
def test_values_of_the_wrong_type_are_named(path, value, message):
    tree = json.loads(SMALL.to_json())
    *sections, name = path.split(".")
    place = tree
    for section in sections:
        place = place[section]
    place[name] = value
    with pytest.raises(ValueError, match=message):
        Config.from_json(json.dumps(tree))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"tasks": ("ied",)}, "model.fusion='concat' needs a sleep task in tasks"),
        ({"tasks": ("ied", "ied")}, "tasks must be distinct"),
        ({"model": {"shared_stages": 5}}, "model.shared_stages must be 0 to 4"),
        ({"preprocess": {"scaling": "window"}}, "model.size='small' needs preprocess.scaling='fixed'"),
        ({"preprocess": {"sfreq": 400.0}}, "it may only lower the rate"),
        (
            {"preprocess": {"sfreq": 100.0}},
            r"preprocess.eeg_band_hz=\(0.5, 55.0\) reaches 50.0 Hz, half of preprocess.sfreq",
        ),
        (
            {"preprocess": {"sfreq": 125.1}},
            "preprocess.sfreq: data.window_seconds of 4.0 s is not a whole number of samples at 125.1 Hz:"
            " the nearest that are: 10 s",
        ),
        ({"converter": {"hop": 7}}, "converter.hop=7 must divide the window's 800 samples"),
        ({"training": {"task_weights": (("rem", 1.0),)}}, r"training.task_weights names \['rem'\]"),
        (
            {"data": {"window_seconds": 4.001}},
            "data.sfreq: data.window_seconds of 4.001 s is not .* at 200 Hz: the nearest that are: 4 s, 4.005 s",
        ),
        ({"converter": {"band_hz": (0.0, 120.0)}}, "reaches above 100.0 Hz"),
        (
            {"freeze": ("stem",), "model": {"shared_stages": 0}},
            r"freeze=\('stem',\) needs a stem, and model.shared_stages=0",
        ),
        (
            {"freeze": ("stem", "sleep"), "tasks": ("ied",), "model": {"fusion": "none"}},
            r"freeze=\('stem', 'sleep'\) needs Twins-Sleep, which tasks=\('ied',\)",
        ),
        ({"data": {"sfreq": 9e5}}, "a window with its margins would hold .* values of 19 channels"),
        ({"data": {"window_seconds": 2000.0}, "converter": {"hop": 1}}, "its frequency-temporal map would hold"),
        (
            {"data": {"ch_names": ("C3", "C4", "X9", "T33")}},
            "data.ch_names 'X9', 'T33': no known electrode, so no row of preprocess.montage='average' can use it",
        ),
        ({"data": {"ch_names": ("ECG1", "C3")}}, "preprocess.montage='average' has no row that data.ch_names="),
        (
            {"data": {"ch_names": ("C3", "C4", "Fp1")}},
            r"training.flip exchanges left and right, but data.ch_names lack the mirror images of \['Fp1'\]",
        ),
        (
            {"preprocess": {"eeg_band_hz": (49.5, 50.5)}},
            r"preprocess.mains_hz=50.0 \(\+- 1.00 Hz\) leaves nothing of preprocess.eeg_band_hz=\(49.5, 50.5\)",
        ),
        (
            {"converter": {"band_hz": (1.0, 2.0)}},
            r"converter.band_hz=\(1.0, 2.0\) holds no bin of converter.n_fft=32: bins are 6.25 Hz apart",
        ),
        (
            {"training": {"task_weights": (("ied", 0.0), ("sleep", 0.0))}},
            "leaves no weight to tasks=",
        ),
    ],
)
def test_impossible_pairs_are_refused_naming_both(sections, message):
    with pytest.raises(ValueError, match=message):
        changed(**sections)


@pytest.mark.parametrize("name", typing.get_args(ModelConfig.__annotations__["name"])[1:])
def test_each_compared_network_refuses_maps_that_it_cannot_read(name):
    kind, message = "none", "reads frequency-temporal maps of two bins or more"
    if name in LEAST_SAMPLES:
        kind, message = "stft", "reads rows as they are: set converter.kind='none'"
    with pytest.raises(ValueError, match=f"model.name='{name}' {message}"):
        changed(model=SINGLE | {"name": name}, converter={"kind": kind})


def test_a_stop_band_must_fit_below_the_lowered_nyquist():
    """55 Hz and a transition of 0.825 Hz fit below 64 Hz; 63.9 Hz does not."""
    kwargs = {"data": {"sfreq": 512.0}, "converter": {"band_hz": (0.0, 60.0), "hop": 8}}
    assert changed(preprocess={"sfreq": 128.0}, **kwargs).n_times_out == 512
    with pytest.raises(ValueError, match="needs the stop band"):
        changed(preprocess={"sfreq": 128.0, "eeg_band_hz": (0.5, 63.9)}, **kwargs)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (lambda: ModelConfig(dilations=(1, 1), shared_stages=1), "model.dilations must be 3 to 64 stages"),
        (lambda: ConverterConfig(kind="stft", n_fft=(64, 128)), "does not fit converter.n_fft"),
        (lambda: ConverterConfig(kind="multi_resolution"), "does not fit converter.n_fft"),
        (lambda: ConverterConfig(n_fft=(63,)), "converter.n_fft must be 1 to 8 even lengths"),
        (lambda: ConverterConfig(band_hz=(40.0, 30.0)), "0 <= low < high"),
        (lambda: DataConfig(ch_names=("Cz", "Cz")), "data.ch_names: 'Cz' and 'Cz' are one electrode, Cz"),
        (
            lambda: DataConfig(ch_names=("T7", "EEG T3-Ref")),
            "data.ch_names: 'T7' and 'EEG T3-Ref' are one electrode, T3",
        ),
        (lambda: DataConfig(ch_names=()), "data.ch_names must be 1 to 1024 names"),
        (lambda: DataConfig(sfreq=0.0), r"data.sfreq must be in \(0, 1e6\), given 0.0"),
        (lambda: DataConfig(sfreq=float("nan")), "data.sfreq must be a finite number, given nan"),
        (lambda: DataConfig(window_seconds=float("inf")), "data.window_seconds must be a finite number, given inf"),
        (lambda: DataConfig(sfreq=1e-40), "data.sfreq must be 0 or a number from 1e-30 to 1e[+]30"),
        (lambda: TrainingConfig(steps=100), "training.warmup_steps=100 must be below training.steps=100"),
        (lambda: TrainingConfig(seed=-1), "training.seed must be in"),
        (lambda: TrainingConfig(task_weights=(("ied", -1.0),)), "training.task_weights must name each task once"),
        (lambda: ModelConfig(dropout=1.0), r"model.dropout must be in \[0, 1\), given 1.0"),
        (lambda: PreprocessConfig(eeg_band_hz=(55.0, 0.5)), "0 < low < high"),
        (lambda: PreprocessConfig(mains_hz=1e-9), r"preprocess.mains_hz must be in \[10, 1e6\]"),
        (
            lambda: PreprocessConfig(filter_half_seconds=1e9),
            r"preprocess.filter_half_seconds must be in \(0, 3600\]",
        ),
        (lambda: PreprocessConfig(sfreq=-1.0), "preprocess.sfreq must be in"),
        (lambda: DataConfig(window_seconds=1e9), "data.window_seconds must be in"),
        (lambda: ConverterConfig(n_fft=(1 << 20,)), "converter.n_fft must be in"),
        (lambda: ModelConfig(dilations=(1, 1, 1 << 20)), "model.dilations must be in"),
        (lambda: ModelConfig(width=1e9), "model.width must be in"),
    ],
)
def test_each_section_checks_itself(section, message):
    with pytest.raises(ValueError, match=message):
        section()


def test_a_shift_is_whole_samples_and_never_moves_a_peak_out_of_its_window():
    config = changed(
        tasks=("sleep",),
        data={"sfreq": 100.0},
        preprocess={"eeg_band_hz": (0.5, 40.0)},
        converter={"n_fft": (16,), "hop": 5, "band_hz": (0.0, 40.0)},
    )
    assert changed(config, training={"time_shift_seconds": 0.29}).shift == 29  # 0.29 * 100 is 28.999... in floats
    assert changed(config, training={"time_shift_seconds": 0.299}).shift == 29
    with pytest.raises(ValueError, match=r"time_shift_seconds=0.11 is above 0.1: the peak that gives the label `ied`"):
        changed(training={"time_shift_seconds": 0.11})
    assert changed(training={"time_shift_seconds": 0.1}).shift == 20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 0}, "training.accumulate must be in"),
        ({"accumulate": 3}, "training.accumulate=3 must divide training.batch_size=64"),
        ({"negatives_per_positive": 0.0}, "training.negatives_per_positive must be in"),
        ({"row_shuffle": 1.5}, r"training.row_shuffle must be in \[0, 1\]"),
        ({"time_shift_seconds": -0.1}, "training.time_shift_seconds must be in"),
    ],
)
def test_impossible_training_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        changed(training=fields)
