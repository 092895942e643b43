"""One experiment: its sections together, what may not be combined, the geometry of a window, JSON in and out.

Imports the standard library, the vocabulary and its own package. A configuration is hashable, so it may be static
under `jax.jit`, and it gives the geometry of a window (margins, frames), for code with and without JAX.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from siamese_jax.config.montages import can_be_made, row_electrodes
from siamese_jax.config.own import is_own
from siamese_jax.config.samples import exact, whole_samples
from siamese_jax.config.sections import (
    LEAST_SAMPLES,
    Band,
    ConverterConfig,
    DataConfig,
    ModelConfig,
    PreprocessConfig,
    TrainingConfig,
)
from siamese_jax.config.typed import check_fields, parse_json, typed
from siamese_jax.vocabulary import IED, IED_INSIDE_SECONDS, LEFT_RIGHT, channel_kind, standard_name

MAX_TASKS = 128
MAX_VALUES = 1 << 24
"""In a window, and in its map: 64 MB of float32. The `paper` size has 0.15 and 0.7 million."""
NOTCH_HALF_HZ = 1.0
"""From the mains frequency to each edge of its stop band, unless the filter is too short to be that sharp."""
BIN_TOLERANCE_HZ = 1e-6
"""A bin this close to an edge of the band counts as on it, whatever the rounding."""


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
        check_fields(self, "config")
        if not 0 < len(self.tasks) <= MAX_TASKS or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks must be distinct, not empty and at most {MAX_TASKS}, given {self.tasks[:5]}")
        self._check_rates()
        self._check_bands()
        self._check_converter()
        self._check_size()
        self._check_electrodes()
        self._check_network()
        self._check_training()

    def _check_rates(self) -> None:
        if self.sfreq > self.data.sfreq:
            raise ValueError(
                f"preprocess.sfreq={self.preprocess.sfreq} is above data.sfreq={self.data.sfreq}: it may only lower"
                " the rate"
            )
        for name, sfreq in (("data.sfreq", self.data.sfreq), ("preprocess.sfreq", self.sfreq)):
            whole_samples(self.data.window_seconds, sfreq, f"{name}: data.window_seconds")

    def _check_bands(self) -> None:
        nyquist = self.sfreq / 2
        for kind in sorted({channel_kind(name) for name in self.data.ch_names}):
            low, high = self.band_hz(kind)
            if max(low or 0, high or 0) >= nyquist:
                raise ValueError(
                    f"preprocess.{kind}_band_hz={(low, high)} reaches {nyquist} Hz,"
                    f" half of preprocess.sfreq={self.sfreq}"
                )
            if self.decimation != 1 and (high is None or high + self.transition_hz > nyquist):
                raise ValueError(
                    f"preprocess.{kind}_band_hz ends at {high} Hz; lowering the rate to preprocess.sfreq={self.sfreq}"
                    f" needs the stop band (edge + {self.transition_hz:.2f} Hz) below {nyquist} Hz"
                )
            if not self.pass_bands(kind):
                raise ValueError(
                    f"preprocess.mains_hz={self.preprocess.mains_hz} (+- {self.notch_half_hz:.2f} Hz) leaves nothing of"
                    f" preprocess.{kind}_band_hz={(low, high)}; the stop band is narrower with a longer"
                    " preprocess.filter_half_seconds"
                )

    def _check_converter(self) -> None:
        converter = self.converter
        if self.n_times_out % converter.stride:
            raise ValueError(
                f"converter.hop={converter.hop} must divide the window's {self.n_times_out} samples at {self.sfreq} Hz"
            )
        if converter.kind == "none":
            return
        if converter.band_hz[1] > self.sfreq / 2:
            raise ValueError(
                f"converter.band_hz={converter.band_hz} reaches above {self.sfreq / 2} Hz, half of {self.sfreq} Hz"
            )
        for n_fft in converter.n_fft:
            if not self.bins(n_fft):
                raise ValueError(
                    f"converter.band_hz={converter.band_hz} holds no bin of converter.n_fft={n_fft}:"
                    f" bins are {self.sfreq / n_fft:.3g} Hz apart"
                )

    def _check_size(self) -> None:
        """Refuse sizes that no computer can hold before any array is made: a configuration may come from anyone."""
        for what, n_values in self._sizes.items():
            if n_values > MAX_VALUES:
                raise ValueError(
                    f"{what} would hold {n_values} values of {len(self.data.ch_names)} channels, {MAX_VALUES} are"
                    " allowed: see data.window_seconds, data.sfreq, preprocess.filter_half_seconds, converter.n_fft,"
                    " converter.hop, model.dilations and training.time_shift_seconds"
                )

    def _check_electrodes(self) -> None:
        ch_names, montage = self.data.ch_names, self.preprocess.montage
        unknown = [name for name in ch_names if standard_name(name) is None]
        if unknown and montage != "referential":
            raise ValueError(
                f"data.ch_names {', '.join(map(repr, unknown))}: no known electrode, so no row of"
                f" preprocess.montage={montage!r} can use it; check the spelling, leave it out, or use"
                " preprocess.montage='referential'"
            )
        if not any(can_be_made(row, ch_names) for row in row_electrodes(montage, ch_names)):
            raise ValueError(f"preprocess.montage={montage!r} has no row that data.ch_names={ch_names} can make")
        lone = [name for name in ch_names if _mirrored(name) not in ch_names]
        if self.training.flip and lone:
            raise ValueError(
                f"training.flip exchanges left and right, but data.ch_names lack the mirror images of {lone};"
                " add them or set training.flip=0"
            )

    def _check_network(self) -> None:
        name, kind = self.model.name, self.converter.kind
        if is_own(name):
            pass  # it says itself what it needs
        elif name in LEAST_SAMPLES:
            if kind != "none":
                raise ValueError(
                    f"model.name={name!r} reads rows as they are: set converter.kind='none', given {kind!r}"
                )
            if self.n_times_out < LEAST_SAMPLES[name]:
                raise ValueError(
                    f"model.name={name!r} needs {LEAST_SAMPLES[name]} samples or more, and data.window_seconds="
                    f"{self.data.window_seconds} at {self.sfreq} Hz are {self.n_times_out}"
                )
        elif not self.model.has_branches and self.n_bins < 2:
            raise ValueError(
                f"model.name={name!r} reads frequency-temporal maps of two bins or more; converter.kind={kind!r} with"
                f" converter.band_hz={self.converter.band_hz} gives {self.n_bins}"
            )
        has_sleep = any(task in self.model.sleep_tasks for task in self.tasks)
        if self.model.fusion != "none" and not has_sleep and not is_own(name):
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

    def _check_training(self) -> None:
        weights = dict(self.training.task_weights)
        unknown = [name for name in weights if name not in self.tasks]
        if unknown:
            raise ValueError(f"training.task_weights names {unknown}, which are not among tasks={self.tasks}")
        if not any(weights.get(task, 1) for task in self.tasks):
            raise ValueError(
                f"training.task_weights={self.training.task_weights} leaves no weight to tasks={self.tasks}"
            )
        if IED.name in self.tasks and self.training.time_shift_seconds > IED_INSIDE_SECONDS:
            raise ValueError(
                f"training.time_shift_seconds={self.training.time_shift_seconds} is above {IED_INSIDE_SECONDS}:"
                " the peak that gives the label `ied` could leave the window"
            )

    # --- geometry of a window: used by host and device alike ---

    @property
    def sfreq(self) -> float:
        """Rate of the rows that the converter sees, in Hz."""
        return self.data.sfreq if self.preprocess.sfreq is None else self.preprocess.sfreq

    @property
    def decimation(self) -> Fraction:
        """Output samples per input sample of the preprocessing; 1 if the rate stays."""
        return exact(self.sfreq) / exact(self.data.sfreq)

    @property
    def n_times(self) -> int:
        """Samples in a window at `data.sfreq`, without margins."""
        return int(exact(self.data.window_seconds) * exact(self.data.sfreq))

    @property
    def n_times_out(self) -> int:
        """Samples in a window at `sfreq`, without margins."""
        return int(self.n_times * self.decimation)

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
    def reach(self) -> int:
        """Raw samples (at `data.sfreq`) that filter, converter and network see beyond the window, on each side."""
        step = self.decimation.denominator
        return self.filter_half + math.ceil(self.context / self.decimation / step) * step

    @property
    def margin(self) -> int:
        """Raw samples (at `data.sfreq`) that travel with a window on each side.

        Its reach, rounded up until window and margins have an FFT-friendly length.
        """
        step, margin, n_times = self.decimation.denominator, self.reach, self.n_times
        # In steps: a prime factor of the step itself is in every length there is.
        while not _is_smooth((n_times + 2 * margin) // step):
            margin += step
        return margin

    @property
    def shift(self) -> int:
        """Raw samples (at `data.sfreq`) by which training may move a window to either side."""
        return math.floor(exact(self.training.time_shift_seconds) * exact(self.data.sfreq))

    @property
    def n_frames(self) -> int:
        """Converter frames within a window: both ends included, or one a sample if the converter is `none`."""
        return self.n_times_out // self.converter.stride + (self.converter.kind != "none")

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame of per-frame logits to the next; frame 0 is centred on the window's start."""
        return self.model.frame_stride * self.converter.stride / self.sfreq

    @property
    def keeps_frames(self) -> bool:
        """Whether events are found in logits by frame: the model gives them, and frames lie alike in every window."""
        return (
            self.model.pooling == "frames" and self.n_times_out % (self.model.frame_stride * self.converter.stride) == 0
        )

    @property
    def convolves_time(self) -> bool:
        """Whether a frame's logits depend on nothing but the signal within `reach` of it, wherever the window lies."""
        return self.keeps_frames and self.model.has_branches and self.model.size == "small"

    def dense(self, seconds: float) -> "Config | None":
        """The same network over blocks of as many windows as come to about so many seconds.

        None if that is no more than one, or if the network sees more of a window than frame by frame. Parameters do
        not depend on the length, and frames have the same logits.
        """
        n = min(round(seconds / self.data.window_seconds), MAX_VALUES // max(self._sizes.values()))
        if n < 2 or not self.convolves_time:
            return None
        return dataclasses.replace(
            self, data=dataclasses.replace(self.data, window_seconds=n * self.data.window_seconds)
        )

    @property
    def _sizes(self) -> dict[str, int]:
        """How many values what is made of a window holds."""
        n_chans = len(self.data.ch_names)
        n_times = self.n_times + 2 * (self.reach + self.shift)
        n_bins = 1 if self.converter.kind == "none" else sum(n // 2 + 1 for n in self.converter.n_fft)
        return {
            "a window with its margins": n_times * n_chans,
            "its frequency-temporal map": (self.n_frames + 2 * self.model.context_frames) * n_bins * n_chans,
        }

    def frame_loss_tasks(self, binary_tasks: Sequence[str]) -> tuple[str, ...]:
        """Those of some binary tasks that have a loss by frame: tasks of events, of a model that keeps frames."""
        states = self.model.sleep_tasks
        use = self.keeps_frames and self.training.frame_weight > 0
        return tuple(task for task in binary_tasks if use and task not in states)

    def hop(self, seconds: float) -> int:
        """Raw samples (at `data.sfreq`) from one window of a recording to the next.

        Raises:
            ValueError: they are no whole number, or frames of one window would lie between those of the next.
        """
        return whole_samples(seconds, self.data.sfreq, "the hop", multiple=self.hop_multiple)

    @property
    def hop_multiple(self) -> int:
        """Of how many raw samples a hop must be a multiple, so that the frames of all windows lie on one grid."""
        frame = self.model.frame_stride * self.converter.stride / self.decimation
        return frame.numerator if self.keeps_frames else 1

    def bins(self, n_fft: int) -> range:
        """The bins of a transform that `converter.band_hz` keeps."""
        low, high = (hz * n_fft / self.sfreq for hz in self.converter.band_hz)
        tolerance = BIN_TOLERANCE_HZ * n_fft / self.sfreq
        return range(max(0, math.ceil(low - tolerance)), min(n_fft // 2, math.floor(high + tolerance)) + 1)

    @property
    def n_bins(self) -> int:
        """Bins of the converter's map."""
        return 1 if self.converter.kind == "none" else sum(len(self.bins(n)) for n in self.converter.n_fft)

    @property
    def mirror(self) -> tuple[int, ...]:
        """For each channel, where its mirror image stands; `training.flip` above 0 has made sure that it is there."""
        return tuple(self.data.ch_names.index(_mirrored(name)) for name in self.data.ch_names)

    @property
    def notch_half_hz(self) -> float:
        """From the mains frequency to each edge of its stop band."""
        return max(NOTCH_HALF_HZ, self.transition_hz / 2)

    def pass_bands(self, kind: str) -> list[tuple[float, float]]:
        """What the filter of a channel kind keeps: its band less a stop band around the mains and each harmonic."""
        nyquist, mains = self.data.sfreq / 2, self.preprocess.mains_hz
        low, high = self.band_hz(kind)
        start, stop = low or 0.0, high or nyquist
        bands = []
        for centre in (mains * n for n in range(1, math.ceil(nyquist / mains))) if mains else ():
            if centre + self.notch_half_hz > start and centre - self.notch_half_hz < stop:
                bands.append((start, centre - self.notch_half_hz))
                start = centre + self.notch_half_hz
        return [(a, b) for a, b in (*bands, (start, stop)) if a < b]

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


def _mirrored(name: str) -> str:
    """The electrode, or derivation, on the other side of the head."""
    other_side = LEFT_RIGHT | {right: left for left, right in LEFT_RIGHT.items()}
    return "-".join(other_side.get(part, part) for part in name.split("-"))


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
