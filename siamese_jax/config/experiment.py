"""One experiment: its sections together, what may not be combined, the geometry of a window, JSON in and out.

Imports the standard library, the vocabulary, `sections` and `typed`. A configuration is hashable, so it may be static
under `jax.jit`, and it knows the geometry of a window (margins, frames), so that host and device rooms agree on it.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from siamese_jax.config.sections import (
    Band,
    ConverterConfig,
    DataConfig,
    ModelConfig,
    PreprocessConfig,
    TrainingConfig,
)
from siamese_jax.config.typed import parse_json, typed
from siamese_jax.vocabulary import IED, IED_INSIDE_SECONDS, channel_kind

MAX_TASKS = 128
MAX_VALUES = 1 << 24
"""In a window, and in its map: 64 MB of float32. The `paper` size has 0.15 and 0.7 million."""


@dataclass(frozen=True)
class Config:
    """One experiment; `presets.py` holds those that have a name."""

    tasks: tuple[str, ...] = ("ied", "sleep")
    freeze: tuple[Literal["stem", "electron", "sleep"], ...] = ()
    """Parts that training leaves as they are, batch statistics included: for fine-tuning."""
    data: DataConfig = field(default_factory=DataConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    converter: ConverterConfig = field(default_factory=ConverterConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if not 0 < len(self.tasks) <= MAX_TASKS or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks must be distinct, not empty and at most {MAX_TASKS}, given {self.tasks[:5]}")
        self._check_rates()
        self._check_size()
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

    def _check_size(self) -> None:
        """Refuse what no computer could hold, before anything is made of it: a configuration may come from anyone."""
        n_chans = len(self.data.ch_names)
        n_times = self.n_times + 2 * (self.filter_half + math.ceil(self.context / self.decimation))
        n_bins = sum(n // 2 + 1 for n in self.converter.n_fft)
        for what, n_values in (
            ("a window with its margins", n_times * n_chans),
            ("its frequency-temporal map", (self.n_frames + 2 * self.model.context_frames) * n_bins * n_chans),
        ):
            if n_values > MAX_VALUES:
                raise ValueError(
                    f"{what} would hold {n_values} values of {n_chans} channels, {MAX_VALUES} are allowed: see"
                    " data.window_seconds, data.sfreq, preprocess.filter_half_seconds, converter.n_fft, converter.hop"
                    " and model.dilations"
                )

    def _check_model(self) -> None:
        has_sleep = any(task in self.model.sleep_tasks for task in self.tasks)
        if self.model.fusion != "none" and not has_sleep:
            raise ValueError(
                f"model.fusion={self.model.fusion!r} needs a sleep task in tasks={self.tasks}"
                f" (one of {self.model.sleep_tasks}); for one task alone set model.fusion='none'"
            )
        if self.freeze and not self.model.has_branches:
            raise ValueError(f"freeze={self.freeze} is for model.name='siamese_es' alone, given {self.model.name!r}")
        if "stem" in self.freeze and not self.model.shared_stages:
            raise ValueError(
                f"freeze={self.freeze} needs a stem, and model.shared_stages=0 leaves none: share a stage or more"
            )
        if "sleep" in self.freeze and not has_sleep:
            raise ValueError(
                f"freeze={self.freeze} needs Twins-Sleep, which tasks={self.tasks} without one of"
                f" model.sleep_tasks={self.model.sleep_tasks} do not have"
            )
        if self.model.has_branches and self.model.size == "small" and self.preprocess.scaling != "fixed":
            raise ValueError(
                f"model.size='small' needs preprocess.scaling='fixed', given {self.preprocess.scaling!r}:"
                " a dense pass must equal the windowed one"
            )
        unknown = [name for name, _ in self.training.task_weights if name not in self.tasks]
        if unknown:
            raise ValueError(f"training.task_weights names {unknown}, which are not among tasks={self.tasks}")
        if IED.name in self.tasks and self.training.time_shift_seconds > IED_INSIDE_SECONDS:
            raise ValueError(
                f"training.time_shift_seconds={self.training.time_shift_seconds} is above {IED_INSIDE_SECONDS}:"
                " a peak that the label `ied` tells of could leave the window"
            )

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
        # In steps: a prime factor of the step itself is in every length there is.
        while not _is_smooth((self.n_times + 2 * margin) // step):
            margin += step
        return margin

    @property
    def shift(self) -> int:
        """Raw samples (at `data.sfreq`) by which training may move a window to either side."""
        return math.floor(Fraction(str(self.training.time_shift_seconds)) * Fraction(str(self.data.sfreq)))

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
        return typed(cls, parse_json(text, "the configuration"), "config")


def differences(there: Any, given: Any, where: str = "") -> dict[str, str]:
    """Fields in which two configurations, or two sections, differ: by path, `a there, b given`."""
    found = {}
    for name in (f.name for f in dataclasses.fields(there)):
        left, right, path = getattr(there, name), getattr(given, name), f"{where}{name}"
        if dataclasses.is_dataclass(left):
            found |= differences(left, right, f"{path}.")
        elif left != right:
            found[path] = f"{left!r} there, {right!r} given"
    return found


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
