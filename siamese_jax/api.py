"""The public functions. The command line calls the same code; here it takes paths, arrays and MNE's objects.

`siamese_jax` itself names all that is public.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from siamese_jax import checkpoints
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.cohort.report import refuse_unfinished
from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import PRESETS
from siamese_jax.detection import evaluation
from siamese_jax.detection.analysis import find, plan_analysis
from siamese_jax.detection.detect import HOP_SECONDS
from siamese_jax.detection.found import Found
from siamese_jax.detection.results import signature
from siamese_jax.locks import locked
from siamese_jax.recordings.read import read_recording
from siamese_jax.recordings.recording import Recording, recording_from_array
from siamese_jax.shards.schema import Shard, open_shards
from siamese_jax.training import loop
from siamese_jax.training.parallel import choose_devices
from siamese_jax.vocabulary import LEFT_RIGHT, standard_name

if TYPE_CHECKING:
    import mne


def detect(
    model: Checkpoint,
    source: "str | Path | mne.io.BaseRaw | Recording | Float[np.ndarray, 'time chan']",
    *,
    sfreq: float | None = None,
    ch_names: Sequence[str] | None = None,
    threshold: float | None = None,
    false_per_hour: float | None = None,
    task: str | None = None,
    hop_seconds: float = HOP_SECONDS,
    exclude: Sequence[str] = (),
    nearest: bool = False,
    units: Mapping[str, str] | None = None,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> Found:
    """Events and sleep stages of one recording; nothing is written.

    Args:
        model: from `load`.
        source: a file; an `mne.io.Raw`, whose volts, bad channels (taken as absent) and annotations `BAD_...` (taken as
            gaps) are understood; an array [time, channel] in MICROVOLTS, with `sfreq` and `ch_names`; or a `Recording`.
        sfreq: samples per second; of an array.
        ch_names: the channels' names, in order; of an array.
        threshold: least probability of an event; None takes the one that was fixed on validation patients.
        false_per_hour: take the threshold that was fixed for so many false events an hour; 1 is the default of a model
            that comes with the package.
        task: which events, if the model knows several kinds.
        hop_seconds: from one window to the next.
        exclude: electrodes to take as absent.
        nearest: let a near electrode of the 10-10 system stand in for one of the model's that is missing.
        units: of an EDF or BDF file: units to read channels in instead of the header's.
        on_progress: called with the seconds of signal done.

    Raises:
        ValueError: a source that cannot be read or analysed; an array of other axes, or without rate and names; a
            threshold, hop, task or electrode that cannot be.
        OSError: a file that cannot be opened.
    """
    recording, bad = _recording(source, model.config, sfreq, ch_names, units, nearest=nearest)
    analysis = plan_analysis(
        model,
        threshold=threshold,
        false_per_hour=false_per_hour,
        task=task,
        hop_seconds=hop_seconds,
        units=units,
        exclude=tuple(dict.fromkeys((*exclude, *bad))),
        nearest=nearest,
    )
    before = signature(recording.path) if recording.path and recording.path.is_file() else None
    return find(recording, analysis, model, source=before, on_progress=on_progress)


def config_for(shards: str | Path, preset: str | Config = "small", **training: Any) -> Config:
    """A preset for a folder of shards: with their channels, rate, window and tasks, and what these rule out left out.

    Args:
        shards: from `siamese-jax prepare` or `shards_from_arrays`.
        preset: a name in `PRESETS`, or a configuration to begin with.
        training: fields of `TrainingConfig` to change: `steps=500`.

    Raises:
        ValueError: no such preset; no shards; a configuration that cannot be.
    """
    if isinstance(preset, str) and preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: there are {', '.join(PRESETS)}")
    base = PRESETS[preset] if isinstance(preset, str) else preset
    info = open_for_training(Path(shards))[0][0].info
    names, tasks = info.ch_names, tuple(task.name for task in info.tasks)
    data = dataclasses.replace(base.data, ch_names=names, sfreq=info.sfreq, window_seconds=info.window / info.sfreq)
    mirrored = set(LEFT_RIGHT) | set(LEFT_RIGHT.values())
    pairs = {name for pair in LEFT_RIGHT.items() if set(pair) <= set(names) for name in pair}
    is_known = all(standard_name(name) for name in names)
    flips = is_known and all(name in pairs or name not in mirrored for name in names)
    sections: dict[str, Any] = {"data": data}
    if not is_known or len(names) == 1:
        sections["preprocess"] = dataclasses.replace(base.preprocess, montage="referential")
    if not any(task in base.model.sleep_tasks for task in tasks):
        sections["model"] = dataclasses.replace(base.model, fusion="none")
    changes = {"flip": base.training.flip if flips else 0.0} | training
    sections["training"] = dataclasses.replace(base.training, **changes)
    return dataclasses.replace(base, tasks=tasks, **sections)


def train(
    shards: str | Path,
    out: str | Path,
    config: str | Config = "small",
    *,
    init_from: Checkpoint | None = None,
    devices: int | None = None,
    stop_at: int | None = None,
    allow_training_patients: bool = False,
    on_start: Callable[[str], None] = lambda text: None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, line: None,
) -> Checkpoint:
    """Train on SHARDS/train, evaluating on SHARDS/validation; resumes the run that `out` holds.

    Args:
        shards: from `siamese-jax prepare` or `shards_from_arrays`.
        out: folder for `checkpoint/` and `training.jsonl`.
        config: the experiment; a preset's name takes `config_for(shards, name)`.
        init_from: checkpoint whose parameters a new run starts from.
        devices: how many of this machine's; None takes all.
        stop_at: save and end after this step; the same call resumes.
        allow_training_patients: validate on patients that `init_from` learnt from, too.
        on_start: called with a text on what the run starts from.
        on_step: called after each step with its losses.

    Raises:
        ValueError: shards that do not fit the configuration, or a folder with another run.
        FloatingPointError: loss or gradient is not finite.
    """
    shards, out = Path(shards), Path(out)
    training, validation = open_for_training(shards)
    config = config_for(shards, config) if isinstance(config, str) else config
    chosen = choose_devices(devices)
    with locked(out):
        loop.train(
            config,
            training,
            validation,
            out,
            devices=chosen,
            stop_at=stop_at,
            init_from=init_from,
            allow_training_patients=allow_training_patients,
            on_start=on_start,
            on_step=on_step,
        )
    return checkpoints.load(out)


def open_for_training(shards: Path) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """The shards to learn from, and those to evaluate on during training, of which there may be none.

    Raises:
        ValueError: there are none to learn from, or preparing them was not finished.
    """
    refuse_unfinished(shards)
    validation = shards / "validation"
    return tuple(open_shards(shards / "train")), tuple(open_shards(validation)) if any(validation.glob("*.h5")) else ()


def evaluate(
    checkpoint: str | Path | Checkpoint,
    shards: str | Path,
    *,
    split: str = "test",
    allow_training_patients: bool = False,
) -> dict[str, Any]:
    """The figures of a checkpoint on shards, as `siamese-jax evaluate` writes them to `metrics.json`.

    Args:
        checkpoint: as loaded, or where it lies.
        shards: from `siamese-jax prepare` or `shards_from_arrays`.
        split: `train`, `validation`, `test`, or `all`.
        allow_training_patients: measure on patients that it learnt from, too.

    Raises:
        ValueError: shards that do not fit, or that hold patients the checkpoint learnt from.
    """
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else checkpoints.load(checkpoint)
    opened = evaluation.open_split(Path(shards), split)
    return evaluation.evaluate(loaded, opened, allow_training_patients=allow_training_patients)


def _recording(
    source: Any,
    config: Config,
    sfreq: float | None,
    ch_names: Sequence[str] | None,
    units: Mapping[str, str] | None,
    *,
    nearest: bool,
) -> tuple[Recording, tuple[str, ...]]:
    """A source as a recording of the model's channels and rate, and its electrodes that are bad."""
    data = config.data
    wanted: dict[str, Any] = {"ch_names": data.ch_names, "sfreq": data.sfreq, "nearest": nearest}
    if isinstance(source, Recording):
        return source, ()
    if isinstance(source, str | Path):
        return read_recording(source, **wanted, units=units), ()
    if hasattr(source, "get_data") and hasattr(source, "info") and hasattr(source, "n_times"):
        from siamese_jax.recordings.through_mne import recording_from_raw

        bad = {label: standard_name(label) or label for label in source.info["bads"]}
        absent = tuple(name for name in dict.fromkeys(bad.values()) if name in data.ch_names)
        others = {label for label, name in bad.items() if name not in data.ch_names}
        return recording_from_raw(source, **wanted, skips=others.__contains__), absent
    if not isinstance(source, np.ndarray):
        raise ValueError(
            f"detect takes a path, an mne.io.Raw, a Recording or an array [time, channel], not {type(source).__name__}"
        )
    if sfreq is None or ch_names is None:
        raise ValueError("an array needs sfreq= and ch_names=: detect(model, eeg_uv, sfreq=200, ch_names=[...])")
    if source.ndim != 2 or source.shape[1] != len(ch_names):
        raise ValueError(
            f"an array must be [time, channel] in microvolts with {len(ch_names)} channels, given {source.shape};"
            " of [channel, time], as MNE has it, take array.T"
        )
    return (
        recording_from_array(
            source,
            sfreq=sfreq,
            ch_names=ch_names,
            target_ch_names=data.ch_names,
            target_sfreq=data.sfreq,
            nearest=nearest,
        ),
        (),
    )
