"""Every knob, as frozen dataclasses that check themselves; JSON in and out.

Imports the standard library, the vocabulary and `typed`. A configuration is hashable, so it may be static under
`jax.jit`, and it knows the geometry of a window (margins, frames), so that host and device rooms agree on it.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from siamese_jax.typed import typed
from siamese_jax.vocabulary import TEN_TWENTY, channel_kind

Band = tuple[float | None, float | None]
PAPER_STAGES = 7
"""Stem, then the six stages of EfficientNetV2 rw_t."""


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
        if not self.ch_names or len(set(self.ch_names)) != len(self.ch_names):
            raise ValueError(f"data.ch_names must be distinct and not empty, given {self.ch_names}")
        if self.sfreq <= 0 or self.window_seconds <= 0:
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
    montage: Literal["referential", "average", "bipolar", "paper45"] = "average"
    scaling: Literal["fixed", "window"] = "fixed"
    """`fixed` divides by a constant per channel kind, `window` by each row's own robust spread."""
    eeg_scale_uv: float = 50.0
    other_scale_uv: float = 500.0

    def __post_init__(self) -> None:
        for name in ("eeg_band_hz", "ecg_band_hz", "emg_band_hz"):
            low, high = getattr(self, name)
            if (low is not None and low <= 0) or (high is not None and high <= (low or 0)):
                raise ValueError(f"preprocess.{name} must be 0 < low < high, given {(low, high)}")
        if self.filter_half_seconds <= 0:
            raise ValueError(f"preprocess.filter_half_seconds must be positive, given {self.filter_half_seconds}")
        if self.mains_hz is not None and self.mains_hz <= 0:
            raise ValueError(f"preprocess.mains_hz must be positive or null, given {self.mains_hz}")
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

    name: Literal["siamese_es"] = "siamese_es"
    size: Literal["small", "paper"] = "small"
    """`paper`: EfficientNetV2 rw_t as disclosed; `small`: ours, convolution only along time, for CPUs."""
    width: float = 1.0
    """Multiplies the number of features of every stage (rounded to a multiple of 8)."""
    dilations: tuple[int, ...] = (1, 1, 2, 4, 8)
    """Of `small`: one stage each, the first two over single rows; kernels are 3 frames long, so that each adds its
    dilation to the margin."""
    shared_stages: int = 2
    """How many leading stages both branches share (hard parameter sharing); 0 shares the converter alone."""
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

    def __post_init__(self) -> None:
        if len(self.dilations) < 3:
            raise ValueError(f"model.dilations needs 3 stages or more (two over single rows), given {self.dilations}")
        if not 0 <= self.shared_stages < self.n_stages:
            raise ValueError(
                f"model.shared_stages must be 0 to {self.n_stages - 1} for model.size={self.size!r},"
                f" given {self.shared_stages}"
            )
        if not 0 <= self.dropout < 1 or self.width <= 0 or any(d < 1 for d in self.dilations):
            raise ValueError(
                "model.dropout must be in [0, 1), model.width positive, model.dilations >= 1;"
                f" given {self.dropout}, {self.width}, {self.dilations}"
            )

    @property
    def n_stages(self) -> int:
        """Number of stages, the stem included."""
        return len(self.dilations) if self.size == "small" else PAPER_STAGES

    @property
    def context_frames(self) -> int:
        """Frames beyond the window, on each side, that the network's convolutions see."""
        return sum(self.dilations) if self.size == "small" else 0

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
    amplitude: float = 0.2
    """Augmentation: a gain per sample, uniform in 1 +- this."""
    electrode_dropout: float = 0.1
    """Augmentation: probability that an electrode is made absent."""
    flip: float = 0.5
    """Augmentation: probability that left and right are exchanged."""
    seed: int = 0
    parallel: Literal["pmap", "shard_map"] = "pmap"
    evaluate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluate_every", "checkpoint_every", "clip_norm", "pos_weight"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name} must be positive, given {getattr(self, name)}")
        for name in ("electrode_dropout", "flip", "amplitude", "label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be in [0, 1), given {getattr(self, name)}")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(f"training.warmup_steps={self.warmup_steps} must lie within training.steps={self.steps}")


@dataclass(frozen=True)
class Config:
    """One experiment; `presets.py` holds the two that have a name."""

    tasks: tuple[str, ...] = ("ied", "sleep")
    data: DataConfig = field(default_factory=DataConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    converter: ConverterConfig = field(default_factory=ConverterConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks must be distinct and not empty, given {self.tasks}")
        self._check_rates()
        self._check_model()

    def _check_rates(self) -> None:
        data, prep = self.data, self.preprocess
        if self.sfreq > data.sfreq:
            raise ValueError(
                f"preprocess.sfreq={prep.sfreq} is above data.sfreq={data.sfreq}: it may only lower the rate"
            )
        for name, value in (
            (
                "data.window_seconds x data.sfreq",
                Fraction(str(data.window_seconds)) * Fraction(str(data.sfreq)),
            ),
            (
                "data.window_seconds x preprocess.sfreq",
                Fraction(str(data.window_seconds)) * Fraction(str(self.sfreq)),
            ),
        ):
            if value.denominator != 1:
                raise ValueError(f"{name} must be a whole number of samples, is {float(value)}")
        if self.n_times_out % self.converter.stride:
            raise ValueError(
                f"converter.hop={self.converter.hop} must divide the window's {self.n_times_out} samples"
                f" at {self.sfreq} Hz"
            )
        nyquist = self.sfreq / 2
        for kind in sorted({channel_kind(name) for name in data.ch_names}):
            high = self.band_hz(kind)[1]
            if high is not None and high >= nyquist:
                raise ValueError(
                    f"preprocess.{kind}_band_hz ends at {high} Hz, but preprocess.sfreq={self.sfreq} holds"
                    f" only frequencies below {nyquist} Hz"
                )
            lowered = self.decimation != 1
            if lowered and (high is None or high + self.transition_hz > nyquist):
                raise ValueError(
                    f"preprocess.{kind}_band_hz ends at {high} Hz; lowering the rate to preprocess.sfreq={self.sfreq}"
                    f" needs the stop band (edge + {self.transition_hz:.2f} Hz) below {nyquist} Hz"
                )
        if self.converter.kind != "none" and self.converter.band_hz[1] > nyquist:
            raise ValueError(
                f"converter.band_hz={self.converter.band_hz} reaches above {nyquist} Hz, half of {self.sfreq} Hz"
            )

    def _check_model(self) -> None:
        has_sleep = any(task in self.model.sleep_tasks for task in self.tasks)
        if self.model.fusion != "none" and not has_sleep:
            raise ValueError(
                f"model.fusion={self.model.fusion!r} needs a sleep task in tasks={self.tasks}"
                f" (one of {self.model.sleep_tasks}); for one task alone set model.fusion='none'"
            )
        if self.model.size == "small" and self.preprocess.scaling != "fixed":
            raise ValueError(
                f"model.size='small' needs preprocess.scaling='fixed', given {self.preprocess.scaling!r}:"
                " a dense pass must equal the windowed one"
            )
        unknown = [name for name, _ in self.training.task_weights if name not in self.tasks]
        if unknown:
            raise ValueError(f"training.task_weights names {unknown}, which are not among tasks={self.tasks}")

    # --- geometry of a window: used by host and device alike ---

    @property
    def sfreq(self) -> float:
        """Rate of the rows that the converter sees, in Hz."""
        return self.data.sfreq if self.preprocess.sfreq is None else self.preprocess.sfreq

    @property
    def decimation(self) -> Fraction:
        """Output samples per input sample of the preprocessing; 1 if the rate stays."""
        return Fraction(str(self.sfreq)) / Fraction(str(self.data.sfreq))

    @property
    def n_times(self) -> int:
        """Samples in a window at `data.sfreq`, without margins."""
        return round(self.data.window_seconds * self.data.sfreq)

    @property
    def n_times_out(self) -> int:
        """Samples in a window at `sfreq`, without margins."""
        return round(self.n_times * self.decimation)

    @property
    def filter_half(self) -> int:
        """Half the FIR's length in samples at `data.sfreq`, a whole number of output samples."""
        step = self.decimation.denominator
        return math.ceil(self.preprocess.filter_half_seconds * self.data.sfreq / step) * step

    @property
    def transition_hz(self) -> float:
        """Width of the FIR's transition band (Hamming window: 3.3 / length)."""
        return 3.3 / (2 * self.preprocess.filter_half_seconds)

    @property
    def context(self) -> int:
        """Filtered samples (at `sfreq`) that converter and network see beyond the window, on each side."""
        return self.converter.half + self.model.context_frames * self.converter.stride

    @property
    def margin(self) -> int:
        """Raw samples (at `data.sfreq`) that travel with a window on each side.

        For filter, converter and network, rounded up until window and margins have an FFT-friendly length.
        """
        step = self.decimation.denominator
        margin = self.filter_half + math.ceil(self.context / self.decimation / step) * step
        while not _is_smooth(self.n_times + 2 * margin):
            margin += step
        return margin

    @property
    def n_frames(self) -> int:
        """Converter frames within a window: both ends included, or one a sample if the converter is `none`."""
        return self.n_times_out // self.converter.stride + (self.converter.kind != "none")

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of per-frame logits to the next; frame 0 is centred on the window's start."""
        return self.model.frame_stride * self.converter.stride / self.sfreq

    def band_hz(self, kind: str) -> Band:
        """Pass band of a channel kind; EOG is filtered as EEG."""
        return {"ecg": self.preprocess.ecg_band_hz, "emg": self.preprocess.emg_band_hz}.get(
            kind, self.preprocess.eeg_band_hz
        )

    # --- JSON ---

    def to_json(self) -> str:
        """This configuration as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The configuration that `to_json` wrote.

        Raises:
            ValueError: text that is not JSON, unknown keys, values of the wrong type, impossible pairs.
        """
        try:
            tree = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"the configuration is not JSON: {error}") from None
        return typed(cls, tree, "config")


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
