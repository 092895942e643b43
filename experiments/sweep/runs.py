"""The named runs: every network and every ablation as a configuration, with the question that it answers.

Two scales. `published` has each network's own size and input, for GPUs and TPUs: 29 leads at 500 Hz. `reduced` is for
two CPU cores: 19 electrodes at 128 Hz, at most 36 bins, a coarser hop and narrower networks. All runs of a scale share
data, augmentation, optimiser, number of updates and the rule for thresholds; what differs is what a run is about.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import PAPER
from siamese_jax.config.sections import ConverterConfig, DataConfig, ModelConfig, PreprocessConfig, TrainingConfig
from siamese_jax.vocabulary import SLEEP, TEN_TWENTY

Scale = Literal["reduced", "published"]
REFERENCE = "siamese_es"
"""The run that all others are compared with."""


@dataclass(frozen=True)
class Run:
    """One configuration and why it is run.

    Attributes:
        name: unique among the runs.
        question: that it answers, in one line.
        config: what is trained and scored.
        pretrained: what is trained first, on the same patients; `config` starts from its parameters.
        shuffles_states: whether the training patients' sleep labels change places, each within their patient.
    """

    name: str
    question: str
    config: Config
    pretrained: Config | None = None
    shuffles_states: bool = False


def changed(config: Config, sections: dict[str, dict[str, Any]], **fields: Any) -> Config:
    """A configuration with some fields of some sections replaced: `changed(c, {"model": {"fusion": "film"}})`."""
    new = {name: dataclasses.replace(getattr(config, name), **values) for name, values in sections.items()}
    return dataclasses.replace(config, **new, **fields)


def with_sleep_task(run: Run, task: str) -> Run:
    """A run whose sleep branch learns another task of sleep: `state`, where only wake and sleep are known."""

    def by(config: Config) -> Config:
        weights = tuple((task if name == SLEEP.name else name, w) for name, w in config.training.task_weights)
        tasks = tuple(task if name == SLEEP.name else name for name in config.tasks)
        return changed(config, {"training": {"task_weights": weights}}, tasks=tasks)

    return dataclasses.replace(run, config=by(run.config), pretrained=run.pretrained and by(run.pretrained))


# --- what all runs of a scale share ----------------------------------------------------------------------------

REDUCED_DATA = DataConfig(sfreq=128.0)
SHORT_FILTER = 1.0
"""Seconds of half the FIR at the reduced scale: half as long as the presets', for half the margin."""
REDUCED_TRAINING = TrainingConfig(
    steps=1200,
    batch_size=32,
    learning_rate=3e-3,
    warmup_steps=60,
    negatives_per_positive=4.0,
    evaluate_every=10_000,  # beyond the last step: only the end is looked at
    checkpoint_every=300,
)
"""The presets' augmentation (gain, absent electrodes, left for right). Four negatives for a positive, drawn afresh for
each pass: as many as the published code of the group keeps (1 of 5 negatives at 4.4 %). Many updates of few windows:
with 38,400 windows in all, updates are what is short."""
PUBLISHED_TRAINING = dataclasses.replace(
    PAPER.training, amplitude=0.2, electrode_dropout=0.1, flip=0.5, row_shuffle=0.0, evaluate_every=40_000
)
"""Optimiser and updates of the group's published code, augmentation of the presets for every network alike."""

_DATA: dict[Scale, DataConfig] = {"reduced": REDUCED_DATA, "published": PAPER.data}
_TRAINING: dict[Scale, TrainingConfig] = {"reduced": REDUCED_TRAINING, "published": PUBLISHED_TRAINING}


def _raw(scale: Scale, name: str, **model: Any) -> Config:
    """A network that reads the signal itself, at 128 Hz."""
    half = SHORT_FILTER if scale == "reduced" else 2.0
    signal = PreprocessConfig(sfreq=128.0, eeg_band_hz=(0.5, 50.0), filter_half_seconds=half)
    data = dataclasses.replace(_DATA[scale], ch_names=TEN_TWENTY)
    return _one_task(scale, data, signal, ConverterConfig(kind="none"), name, **model)


def _image(scale: Scale, name: str, **model: Any) -> Config:
    """A network that reads maps of magnitude over frequency and time."""
    if scale == "published":
        return _one_task(scale, PAPER.data, PAPER.preprocess, PAPER.converter, name, **model)
    signal = PreprocessConfig(eeg_band_hz=(0.5, 50.0), filter_half_seconds=SHORT_FILTER)
    maps = ConverterConfig(n_fft=(64,), hop=8, band_hz=(0.0, 50.0))
    return _one_task(scale, REDUCED_DATA, signal, maps, name, **model)


def _one_task(
    scale: Scale, data: DataConfig, preprocess: PreprocessConfig, converter: ConverterConfig, name: str, **model: Any
) -> Config:
    network: Any = {"name": name, "fusion": "none", "pooling": "average", "dropout": 0.5} | model
    return Config(
        tasks=("ied",),
        data=data,
        preprocess=preprocess,
        converter=converter,
        model=ModelConfig(**network),
        training=_TRAINING[scale],
    )


# --- the comparison --------------------------------------------------------------------------------------------


def siamese_es(scale: Scale) -> Config:
    """The reference: ours (`small`) where CPUs must do, as disclosed (`paper`) at the published scale.

    Ours fuses by gates, chosen on validation patients from one seed (AUPRC 0.927 against 0.918 by concatenation): sleep
    weighs the features of the electron branch, and adds none of its own to overfit with.
    """
    if scale == "published":
        return dataclasses.replace(PAPER, training=PUBLISHED_TRAINING)
    return Config(
        data=REDUCED_DATA,
        preprocess=PreprocessConfig(eeg_band_hz=(0.5, 50.0), filter_half_seconds=SHORT_FILTER),
        converter=ConverterConfig(n_fft=(32,), hop=8, band_hz=(0.0, 50.0)),
        model=ModelConfig(width=0.67, fusion="gated"),
        training=REDUCED_TRAINING,
    )


def compared(scale: Scale) -> dict[str, Run]:
    """Siamese-ES, the six networks that its authors compared it with, and SpikeNet.

    At the reduced scale, where Siamese-ES is ours, also Siamese-ES as disclosed.
    """
    narrow = {"width": 0.25} if scale == "reduced" else {}
    as_disclosed = _image(scale, REFERENCE, size="paper", shared_stages=4, **narrow)
    as_disclosed = changed(as_disclosed, {"model": {"fusion": "concat"}}, tasks=("ied", "sleep"))
    runs = (
        Run(REFERENCE, "Ours: IED and sleep together, sleep features fused.", siamese_es(scale)),
        Run("eegnet", "EEGNet-8,2: is a very small network on the raw signal enough?", _raw(scale, "eegnet")),
        Run("cnn_lstm", "CNN-LSTM: does a recurrent summary of four seconds help?", _raw(scale, "cnn_lstm")),
        Run("vgg16", "VGG-16 on spectrograms: the plain image network.", _image(scale, "vgg16", **narrow)),
        Run(
            "eegformer",
            "EEGformer: attention over filters, electrodes and time.",
            _raw(scale, "eegformer", dropout=0.1, width=0.125 if narrow else 1.0),
        ),
        Run("aied", "AiED: a residual image network.", _image(scale, "aied", **narrow)),
        Run("nepinet", "nEpiNet: EfficientNetV2 without a sleep branch.", _image(scale, "nepinet", **narrow)),
        Run(
            "spikenet",
            "SpikeNet: one-second pieces, 37 rows, no context.",
            changed(_raw(scale, "spikenet", **narrow), {"preprocess": {"montage": "average_bipolar"}}),
        ),
    )
    if scale == "reduced":
        runs += (Run("siamese_es_paper", "Siamese-ES as disclosed: two EfficientNetV2 tails.", as_disclosed),)
    return {run.name: run for run in runs}


# --- ablations of Siamese-ES -----------------------------------------------------------------------------------

ELECTRON_ONLY, SLEEP_LOSS_OFF, SLEEP_FROZEN, NOT_FUSED = (
    "A_electron_only",
    "B_sleep_loss_off",
    "C_sleep_frozen",
    "not_fused",
)
STAGE_GIVEN, STOPPED, STATE_ONLY, SHUFFLED = "E_stage_given", "F_gradient_stopped", "true_state_only", "states_shuffled"
UNSHARED = "shared_0"


def ablated(scale: Scale) -> dict[str, Run]:
    """Ablations A to F (D is the reference, E is made of A's predictions) and the control with shuffled states."""
    full = siamese_es(scale)
    silent = {"training": {"task_weights": (("sleep", 0.0),)}}
    unshared = {"model": {"shared_stages": 0}}
    asleep = {"model": {"shared_stages": 0, "fusion": "none"}, "training": {"negatives_per_positive": None}}
    not_fused = {"model": {"fusion": "none"}}
    runs = (
        Run(REFERENCE, "D: everything.", full),
        Run(
            ELECTRON_ONLY,
            "A: Twins-Electron alone, one task.",
            changed(full, not_fused, tasks=("ied",)),
        ),
        Run(SLEEP_LOSS_OFF, "B: both branches, no sleep loss: capacity alone.", changed(full, silent)),
        Run(
            SLEEP_FROZEN,
            "C: Twins-Sleep learnt first, by itself, then frozen: sleep features without multi-task learning.",
            changed(full, unshared | silent, freeze=("sleep",)),
            pretrained=changed(full, asleep, tasks=("sleep",)),
        ),
        Run(
            STOPPED,
            "F: the IED loss sends no gradient into Twins-Sleep.",
            changed(full, {"model": {"stop_sleep_gradient": True}}),
        ),
        Run(NOT_FUSED, "Multi-task learning without fusion.", changed(full, not_fused)),
        Run(SHUFFLED, "Control: sleep labels shuffled within each patient.", full, shuffles_states=True),
        Run(UNSHARED, "No stage shared: what C is compared with.", changed(full, unshared)),
    )
    return {run.name: run for run in runs}


def varied(scale: Scale) -> dict[str, Run]:
    """Depth of sharing, converter, fusion, pooling, preprocessing and task weights, one at a time."""
    full = siamese_es(scale)
    n_stages = full.model.n_stages
    variations: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
        f"shared_{n}": (f"{n} of {n_stages} stages shared.", {"model": {"shared_stages": n}})
        for n in range(1, n_stages)
        if n != full.model.shared_stages
    }
    variations |= {
        "converter_log": ("Log magnitudes.", {"converter": {"amplitude": "log"}}),
        "converter_multi_resolution": (
            "Short and long transforms together.",
            {"converter": {"kind": "multi_resolution", "n_fft": _shorter_and_longer(full.converter.n_fft[0])}},
        ),
        "converter_longer": (
            "Transforms twice as long: what the image networks of `compare` read at the reduced scale.",
            {"converter": {"n_fft": (2 * full.converter.n_fft[0],)}},
        ),
        "converter_none": ("No converter: the samples themselves.", {"converter": {"kind": "none"}}),
        "montage_referential": ("Electrodes as recorded.", {"preprocess": {"montage": "referential"}}),
        "montage_bipolar": ("Neighbours' differences.", {"preprocess": {"montage": "bipolar"}}),
        "band_1_35": ("A narrower band.", {"preprocess": {"eeg_band_hz": (1.0, 35.0)}}),
        "no_mains_filter": ("No notch: the band's edge alone.", {"preprocess": {"mains_hz": None}}),
        "sleep_weight_0.1": ("A tenth of the sleep loss.", {"training": {"task_weights": (("sleep", 0.1),)}}),
        "sleep_weight_0.3": ("A third of the sleep loss.", {"training": {"task_weights": (("sleep", 0.3),)}}),
        "sleep_weight_3": ("Thrice the sleep loss.", {"training": {"task_weights": (("sleep", 3.0),)}}),
        "balance_uncertainty": ("Weights of the tasks learnt.", {"training": {"balance": "uncertainty"}}),
        "no_augmentation": (
            "No gain, no absent electrodes, no mirror image.",
            {"training": {"amplitude": 0.0, "electrode_dropout": 0.0, "flip": 0.0}},
        ),
    }
    fusions = {
        "concat": "Sleep features beside electron features.",
        "gated": "Sleep features open and close electron features.",
        "film": "Sleep features scale and shift electron features.",
    }
    variations |= {
        f"fusion_{kind}": (question, {"model": {"fusion": kind}})
        for kind, question in fusions.items()
        if kind != full.model.fusion
    }
    if full.training.negatives_per_positive is None:
        variations["negatives_4"] = ("Four negatives for a positive.", {"training": {"negatives_per_positive": 4.0}})
    else:
        every = {"training": {"negatives_per_positive": None}}
        variations["negatives_all"] = ("Every negative in every pass, as in nature.", every)
    if full.model.size == "small":
        variations["pooling_average"] = ("Features pooled over the window.", {"model": {"pooling": "average"}})
    else:
        variations["pooling_frames"] = ("Fused and judged frame by frame.", {"model": {"pooling": "frames"}})
    return {name: Run(name, question, changed(full, sections)) for name, (question, sections) in variations.items()}


def _shorter_and_longer(n_fft: int) -> tuple[int, ...]:
    return n_fft // 2, n_fft, n_fft * 2


def runs(scale: Scale) -> dict[str, Run]:
    """All named runs of a scale."""
    return compared(scale) | ablated(scale) | varied(scale)
