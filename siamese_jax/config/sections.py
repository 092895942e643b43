"""Every setting, in frozen dataclasses that each check themselves. Imports the standard library and the vocabulary."""

from dataclasses import dataclass
from typing import Literal

from siamese_jax.config.own import check_name, is_own
from siamese_jax.config.typed import check_fields
from siamese_jax.vocabulary import TEN_TWENTY, standard_names

Band = tuple[float | None, float | None]
PAPER_STAGES = 7
"""Stem, then the six stages of EfficientNetV2 rw_t."""

# Bounds far from any real recording or network: a configuration may come from anyone, and what it requests is
# made before anybody looks. `Config` bounds what these make together.
MAX_CHANS, MAX_TRANSFORMS, MAX_STAGES = 1024, 8, 64

NETWORKS: tuple[str, ...] = (
    *("siamese_es", "eegnet", "cnn_lstm", "vgg16", "eegformer", "aied", "nepinet", "spikenet", "resnet1d"),
)
"""The networks that this package has."""
LEAST_SAMPLES: dict[str, int] = {"eegnet": 32, "cnn_lstm": 15, "eegformer": 28, "spikenet": 128, "resnet1d": 1}
"""The networks that read rows as they are, and of how many samples a window must be: what their pooling needs."""


@dataclass(frozen=True)
class DataConfig:
    """What a window of raw microvolts looks like when it leaves the host."""

    ch_names: tuple[str, ...] = TEN_TWENTY
    """Electrodes in order; one that a recording lacks is marked absent. Names are made standard ones: T7 is T3."""
    sfreq: float = 200.0
    """Samples per second of the shards and of a recording prepared for detection."""
    window_seconds: float = 4.0
    """Length of one model input, without its margins."""

    def __post_init__(self) -> None:
        check_fields(self, "data", sfreq="(0, 1e6)", window_seconds="(0, 3600]")
        if not 0 < len(self.ch_names) <= MAX_CHANS:
            raise ValueError(f"data.ch_names must be 1 to {MAX_CHANS} names, given {len(self.ch_names)}")
        try:
            object.__setattr__(self, "ch_names", standard_names(self.ch_names))
        except ValueError as error:
            raise ValueError(f"data.ch_names: {error}") from None


@dataclass(frozen=True)
class PreprocessConfig:
    """From raw microvolts to filtered, re-referenced, scaled rows."""

    sfreq: float | None = None
    """Rate after filtering, if lower than `data.sfreq`."""
    eeg_band_hz: Band = (0.5, 55.0)
    ecg_band_hz: Band = (0.5, None)
    emg_band_hz: Band = (20.0, None)
    mains_hz: float | None = 50.0
    """Mains frequency to notch, with its harmonics below the Nyquist frequency; none if the band excludes it."""
    filter_half_seconds: float = 2.0
    """Half the length of the linear-phase FIR; about 2 s for a 0.5-Hz edge."""
    montage: Literal["referential", "average", "bipolar", "average_bipolar", "paper45"] = "average"
    limit_uv: float | None = None
    """Filtered EEG is cut at this size to both sides before it is referenced: it bounds what a broken electrode, or an
    amplifier at fault, does to the average and to the output."""
    scaling: Literal["fixed", "window"] = "fixed"
    """`fixed` divides by a constant per channel kind, `window` by each row's own robust spread."""
    eeg_scale_uv: float = 50.0
    other_scale_uv: float = 500.0
    implementation: Literal["fft", "convolution"] = "fft"
    """Two ways to the same filter: `fft` is the faster, `convolution` the one that ONNX can express."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "preprocess",
            sfreq="(0, 1e6)",
            mains_hz="[10, 1e6]",
            filter_half_seconds="(0, 3600]",
            eeg_scale_uv="(0, 1e30]",
            limit_uv="(0, 1e30]",
            other_scale_uv="(0, 1e30]",
        )
        for name in ("eeg_band_hz", "ecg_band_hz", "emg_band_hz"):
            low, high = getattr(self, name)
            if (low is not None and low <= 0) or (high is not None and high <= (low or 0)):
                raise ValueError(f"preprocess.{name} must be 0 < low < high, given {(low, high)}")


@dataclass(frozen=True)
class ConverterConfig:
    """From rows to a frequency-temporal map (the Frequency-Temporal Converter)."""

    kind: str = "stft"
    """`stft`, `multi_resolution`, or `none`, which gives the rows as they are: one bin, one frame a sample. Or your own
    function, `my_module:my_converter` (`signals/converter.py` says what it takes and gives)."""
    n_fft: tuple[int, ...] = (32,)
    """Transform lengths in samples: one for `stft`, several (stacked along frequency) for `multi_resolution`."""
    hop: int = 10
    """Samples from one frame to the next."""
    band_hz: tuple[float, float] = (0.0, 55.0)
    """Bins outside are cropped; both ends included."""
    amplitude: Literal["magnitude", "log"] = "magnitude"
    """`log` is log1p of the magnitude."""
    implementation: Literal["auto", "fft", "dft"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self, "converter", n_fft="[2, 4096]", hop="[1, 1e9]")
        check_name(self.kind, "converter.kind", ("stft", "multi_resolution", "none"))
        if not 0 < len(self.n_fft) <= MAX_TRANSFORMS or any(n % 2 for n in self.n_fft):
            raise ValueError(
                f"converter.n_fft must be 1 to {MAX_TRANSFORMS} even lengths, given {len(self.n_fft)}:"
                f" {self.n_fft[:MAX_TRANSFORMS]}"
            )
        if (self.kind == "stft" and len(self.n_fft) != 1) or (self.kind == "multi_resolution" and len(self.n_fft) < 2):
            raise ValueError(
                f"converter.kind={self.kind!r} does not fit converter.n_fft={self.n_fft}:"
                " stft takes one length, multi_resolution two or more"
            )
        if not 0 <= self.band_hz[0] < self.band_hz[1]:
            raise ValueError(f"converter.band_hz must be 0 <= low < high, given {self.band_hz}")

    @property
    def half(self) -> int:
        """Samples that a frame reaches to each side of its centre."""
        return 0 if self.kind == "none" else max(self.n_fft) // 2

    @property
    def stride(self) -> int:
        """Samples from one frame to the next, whatever the kind."""
        return 1 if self.kind == "none" else self.hop


@dataclass(frozen=True)
class ModelConfig:
    """The network between converter and logits."""

    name: str = "siamese_es"
    """One of `NETWORKS`: all but `siamese_es` are networks it is compared with, of one trunk, which pool its features
    over the window. Or your own Flax module, `my_module:MyNetwork` (`models/build.py` says what it takes and gives)."""
    size: Literal["small", "paper"] = "small"
    """Of `siamese_es`. `paper`: EfficientNetV2 rw_t as disclosed; `small`: ours, convolution only along time, for
    CPUs."""
    width: float = 1.0
    """Multiplies the number of features of every stage (rounded to a multiple of 8)."""
    dilations: tuple[int, ...] = (1, 1, 2, 4, 8)
    """Of `small`: one stage each, the first two over single rows; kernels are 3 frames long, so that each adds its
    dilation to the margin."""
    shared_stages: int = 2
    """Of `siamese_es`: how many leading stages both branches share (hard parameter sharing); 0 shares the converter
    alone."""
    fusion: Literal["none", "concat", "gated", "film"] = "concat"
    """How features of Twins-Sleep join those of Twins-Electron before the IED head."""
    stop_sleep_gradient: bool = False
    """Keep the gradient of the fused heads out of Twins-Sleep."""
    pooling: Literal["average", "frames"] = "frames"
    """`average` pools features over the window, `frames` fuses per frame and pools the logits."""
    dropout: float = 0.2
    sleep_tasks: tuple[str, ...] = ("sleep", "state")
    """Tasks of state: their heads read Twins-Sleep, pooled by the mean. Every other task reads the fused features
    and, per frame, adds odds over the window."""
    depthwise: Literal["auto", "shift", "lax"] = "auto"
    """Depthwise convolution: shift-and-add (CPU) or XLA's grouped convolution; `auto` chooses by platform."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of stem, branches and fusion. Filter, converter, heads, losses and all parameters are float32 always."""
    remat: bool = False
    """Compute each stage again in the backward pass instead of keeping its activations: less memory, more time."""

    def __post_init__(self) -> None:
        check_fields(self, "model", width="(0, 64]", dilations="[1, 4096]", dropout="[0, 1)")
        check_name(self.name, "model.name", NETWORKS)
        if not 3 <= len(self.dilations) <= MAX_STAGES:
            raise ValueError(
                f"model.dilations must be 3 to {MAX_STAGES} stages (two over single rows), given {len(self.dilations)}"
            )
        if not 0 <= self.shared_stages < self.n_stages:
            raise ValueError(
                f"model.shared_stages must be 0 to {self.n_stages - 1} for model.size={self.size!r},"
                f" given {self.shared_stages}"
            )
        if not self.has_branches and not is_own(self.name):
            self._check_one_trunk()

    def _check_one_trunk(self) -> None:
        of_branches = {"fusion": "none", "pooling": "average", "stop_sleep_gradient": False}
        of_branches |= {"dtype": "float32", "remat": False}
        for field, allowed in of_branches.items():
            if getattr(self, field) != allowed:
                raise ValueError(
                    f"model.{field}={getattr(self, field)!r} is for model.name='siamese_es' alone;"
                    f" model.name={self.name!r} needs model.{field}={allowed!r}"
                )

    @property
    def has_branches(self) -> bool:
        """Whether it is the network of two branches, rather than one that it is compared with."""
        return self.name == "siamese_es"

    @property
    def title(self) -> str:
        """The network in words, with its size if it has several."""
        return f"{self.size} {self.name}" if self.has_branches else self.name

    @property
    def n_stages(self) -> int:
        """Number of stages, the stem included."""
        return len(self.dilations) if self.size == "small" else PAPER_STAGES

    @property
    def context_frames(self) -> int:
        """Frames beyond the window, on each side, that the network's convolutions see."""
        return sum(self.dilations) if self.has_branches and self.size == "small" else 0

    @property
    def frame_stride(self) -> int:
        """Converter frames from one output frame to the next."""
        return 1 if self.size == "small" else 32


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation, balance, augmentation, devices."""

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-7
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    adam_eps: float = 1e-5
    clip_norm: float = 5.0
    ema_decay: float = 0.999
    label_smoothing: float = 0.0
    pos_weight: float = 2.0
    """Multiplies the loss of positives in binary and multilabel tasks."""
    loss: str | None = None
    """Your own loss by window, `my_module:my_loss`, in place of the cross-entropy (`training/losses.py`)."""
    frame_weight: float = 1.0
    """Of binary tasks of events, where the model keeps frames: weight of the loss by frame beside that of the window.
    A mark is a bag, some frame of it positive; judged frames outside marks are negative."""
    task_weights: tuple[tuple[str, float], ...] = ()
    """Weight of each task's mean loss; a task not named has 1."""
    balance: Literal["fixed", "uncertainty"] = "fixed"
    """`uncertainty` learns a further weight for each task, exp(-s), against a penalty of s / 2 (Kendall 2018)."""
    negatives_per_positive: float | None = None
    """Of the windows without a positive label, how many a pass draws for each one with; none: all, as in nature.
    Windows without any label of that kind, as where only sleep was scored, are drawn besides: at most half a pass."""
    accumulate: int = 1
    """Micro-batches that a batch is cut into, one after another: memory of a part, gradient of the whole. Batch
    statistics are those of a micro-batch."""
    time_shift_seconds: float = 0.0
    """Augmentation: each window is moved in time by a draw from 0 +- this."""
    amplitude: float = 0.2
    """Augmentation: a gain per sample, uniform in 1 +- this."""
    electrode_dropout: float = 0.1
    """Augmentation: probability that an electrode is made absent."""
    faults: float = 0.0
    """Augmentation: probability that an electrode, or the amplifier, is at fault: noise, a step, silence, a knock."""
    flip: float = 0.5
    """Augmentation: probability that left and right are exchanged."""
    row_shuffle: float = 0.0
    """Augmentation: probability that the rows of each block of the montage change places."""
    seed: int = 0
    parallel: Literal["pmap", "shard_map"] = "pmap"
    evaluate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        rates, counts, sizes = "[0, 1)", "[1, 1e9]", "(0, 1e30]"
        check_fields(
            self,
            "training",
            **dict.fromkeys(("steps", "batch_size", "accumulate", "evaluate_every", "checkpoint_every"), counts),
            **dict.fromkeys(("learning_rate", "adam_eps", "clip_norm", "pos_weight", "negatives_per_positive"), sizes),
            **dict.fromkeys(("electrode_dropout", "flip", "amplitude", "label_smoothing", "ema_decay"), rates),
            **dict.fromkeys(("final_learning_rate", "weight_decay", "frame_weight"), "[0, 1e30]"),
            **dict.fromkeys(("row_shuffle", "faults"), "[0, 1]"),
            time_shift_seconds="[0, 3600]",
            seed="[0, inf)",
            warmup_steps="[0, inf)",
        )
        if self.loss is not None and not is_own(self.loss):
            raise ValueError(f"training.loss must be module:name of your own function, given {self.loss!r}")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"training.warmup_steps={self.warmup_steps} must be below training.steps={self.steps}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"training.accumulate={self.accumulate} must divide training.batch_size={self.batch_size}")
        named = [name for name, _ in self.task_weights]
        if len(set(named)) != len(named) or any(weight < 0 for _, weight in self.task_weights):
            raise ValueError(
                f"training.task_weights must name each task once, with a weight of 0 or more, given {self.task_weights}"
            )
