"""Every knob, in frozen dataclasses that each check themselves. Imports the standard library and the vocabulary."""

from dataclasses import dataclass
from typing import Literal

from siamese_jax.vocabulary import TEN_TWENTY

Band = tuple[float | None, float | None]
PAPER_STAGES = 7
"""Stem, then the six stages of EfficientNetV2 rw_t."""

# Bounds that no recording and no network comes near: a configuration may come from anyone, and what it asks for is
# made before anybody looks. `Config` bounds what these make together.
MAX_CHANS, MAX_SFREQ_HZ, MAX_SECONDS = 1024, 1e6, 3600.0
MIN_MAINS_HZ = 10.0
MAX_N_FFT, MAX_TRANSFORMS, MAX_STAGES, MAX_DILATION, MAX_WIDTH = 4096, 8, 64, 4096, 64


@dataclass(frozen=True)
class DataConfig:
    """What a window of raw microvolts looks like when it leaves the host."""

    ch_names: tuple[str, ...] = TEN_TWENTY
    """Electrodes in order; one that a recording lacks is marked absent."""
    sfreq: float = 200.0
    """Samples per second of the shards and of a recording prepared for detection."""
    window_seconds: float = 4.0
    """Length of one model input, without its margins."""

    def __post_init__(self) -> None:
        if len(self.ch_names) > MAX_CHANS or self.sfreq > MAX_SFREQ_HZ or self.window_seconds > MAX_SECONDS:
            raise ValueError(
                f"data holds at most {MAX_CHANS} ch_names, sfreq {MAX_SFREQ_HZ:g} and window_seconds {MAX_SECONDS:g},"
                f" given {len(self.ch_names)}, {self.sfreq} and {self.window_seconds}"
            )
        if not self.ch_names or len(set(self.ch_names)) != len(self.ch_names):
            raise ValueError(f"data.ch_names must be distinct and not empty, given {self.ch_names}")
        if not (self.sfreq > 0 and self.window_seconds > 0):  # not a number is refused too
            raise ValueError(
                f"data.sfreq and data.window_seconds must be positive, given {self.sfreq} and {self.window_seconds}"
            )


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
    scaling: Literal["fixed", "window"] = "fixed"
    """`fixed` divides by a constant per channel kind, `window` by each row's own robust spread."""
    eeg_scale_uv: float = 50.0
    other_scale_uv: float = 500.0
    implementation: Literal["fft", "convolution"] = "fft"
    """Two ways to the same filter: `fft` is the faster, `convolution` the one that ONNX can express."""

    def __post_init__(self) -> None:
        for name in ("eeg_band_hz", "ecg_band_hz", "emg_band_hz"):
            low, high = getattr(self, name)
            if (low is not None and low <= 0) or (high is not None and high <= (low or 0)):
                raise ValueError(f"preprocess.{name} must be 0 < low < high, given {(low, high)}")
        if self.sfreq is not None and self.sfreq <= 0:
            raise ValueError(f"preprocess.sfreq must be positive or null, given {self.sfreq}")
        if not 0 < self.filter_half_seconds <= MAX_SECONDS:
            raise ValueError(
                f"preprocess.filter_half_seconds must be positive and at most {MAX_SECONDS:g},"
                f" given {self.filter_half_seconds}"
            )
        if self.mains_hz is not None and not MIN_MAINS_HZ <= self.mains_hz:
            raise ValueError(f"preprocess.mains_hz must be null or at least {MIN_MAINS_HZ:g}, given {self.mains_hz}")
        if self.eeg_scale_uv <= 0 or self.other_scale_uv <= 0:
            raise ValueError("preprocess.eeg_scale_uv and preprocess.other_scale_uv must be positive")


@dataclass(frozen=True)
class ConverterConfig:
    """From rows to a frequency-temporal map (the Frequency-Temporal Converter)."""

    kind: Literal["stft", "multi_resolution", "none"] = "stft"
    """`none` hands the rows on as they are: one bin, one frame a sample."""
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
        longest = max(self.n_fft, default=0)
        if longest > MAX_N_FFT or len(self.n_fft) > MAX_TRANSFORMS:
            raise ValueError(
                f"converter.n_fft may name {MAX_TRANSFORMS} lengths of at most {MAX_N_FFT} samples,"
                f" given {len(self.n_fft)} up to {longest}"
            )
        if self.hop < 1 or any(n < 2 or n % 2 for n in self.n_fft):
            raise ValueError(
                f"converter.hop must be >= 1 and converter.n_fft even, given hop={self.hop}, n_fft={self.n_fft}"
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

    name: Literal[
        "siamese_es",
        "eegnet",
        "cnn_lstm",
        "vgg16",
        "eegformer",
        "aied",
        "nepinet",
        "spikenet",
        "resnet1d",
    ] = "siamese_es"
    """All but `siamese_es` are networks it is compared with: one trunk, its features pooled over the window."""
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
        if len(self.dilations) > MAX_STAGES or max(self.dilations, default=0) > MAX_DILATION:
            raise ValueError(
                f"model.dilations may be {MAX_STAGES} numbers of at most {MAX_DILATION}, given {len(self.dilations)}"
                f" up to {max(self.dilations, default=0)}"
            )
        if len(self.dilations) < 3:
            raise ValueError(f"model.dilations needs 3 stages or more (two over single rows), given {self.dilations}")
        if not 0 <= self.shared_stages < self.n_stages:
            raise ValueError(
                f"model.shared_stages must be 0 to {self.n_stages - 1} for model.size={self.size!r},"
                f" given {self.shared_stages}"
            )
        if not self.has_branches:
            self._check_one_trunk()
        if not 0 <= self.dropout < 1 or not 0 < self.width <= MAX_WIDTH or any(d < 1 for d in self.dilations):
            raise ValueError(
                f"model.dropout must be in [0, 1), model.width positive and at most {MAX_WIDTH}, model.dilations >= 1;"
                f" given {self.dropout}, {self.width}, {self.dilations}"
            )

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
    flip: float = 0.5
    """Augmentation: probability that left and right are exchanged."""
    row_shuffle: float = 0.0
    """Augmentation: probability that the rows of each block of the montage change places."""
    seed: int = 0
    parallel: Literal["pmap", "shard_map"] = "pmap"
    evaluate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "batch_size",
            "accumulate",
            "evaluate_every",
            "checkpoint_every",
            "clip_norm",
            "pos_weight",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name} must be positive, given {getattr(self, name)}")
        for name in ("electrode_dropout", "flip", "amplitude", "label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be in [0, 1), given {getattr(self, name)}")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(f"training.warmup_steps={self.warmup_steps} must lie within training.steps={self.steps}")
        if not 0 <= self.row_shuffle <= 1 or self.time_shift_seconds < 0:
            raise ValueError(
                "training.row_shuffle must be in [0, 1] and training.time_shift_seconds not negative,"
                f" given {self.row_shuffle} and {self.time_shift_seconds}"
            )
        if self.negatives_per_positive is not None and self.negatives_per_positive <= 0:
            raise ValueError(
                f"training.negatives_per_positive must be positive or null, given {self.negatives_per_positive}"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(f"training.accumulate={self.accumulate} must divide training.batch_size={self.batch_size}")
