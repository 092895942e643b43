"""The command `train`."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from siamese_jax import files
from siamese_jax.cli.console import OK, progress_bar, use_compilation_cache
from siamese_jax.cli.supervision import supervised
from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import PRESET_HELP, PRESETS, fine_tuning
from siamese_jax.config.typed import parse_json, typed

PresetConfig = Annotated[
    tyro.extras.subcommand_type_from_defaults(PRESETS, PRESET_HELP, prefix_names=False),
    tyro.conf.arg(name=""),
]
"""A preset's name on the command line, then any field of it: `small --model.fusion gated`."""


@dataclass(frozen=True)
class Processes:
    """Several processes that train together, one command each, with the same arguments but for --process-id.

    On one machine a single process uses all devices: this is for many machines.
    """

    cluster: bool = False
    """Let JAX find the others by itself: SLURM, Open MPI, TPU pods, Kubernetes."""
    coordinator: str | None = None
    """Else, HOST:PORT of the first process,"""
    process_id: int | None = None
    """which one this is, from 0,"""
    num_processes: int | None = None
    """and how many there are."""
    lost_after: int = 60
    """Seconds without a sign of life from one of them after which the others end."""

    @property
    def several(self) -> bool:
        """Whether anything was asked for."""
        return self.cluster or any(x is not None for x in (self.coordinator, self.process_id, self.num_processes))


def train(
    shards: Positional[Path],
    run: Positional[Path],
    config: PresetConfig,
    *,
    init_from: Path | None = None,
    devices: int | None = None,
    stop_at: int | None = None,
    allow_training_patients: bool = False,
    tensorboard: bool = False,
    profile: bool = False,
    processes: Annotated[Processes, tyro.conf.arg(name="")] = Processes(),
) -> int:
    """Trains on SHARDS/train, watching SHARDS/validation; goes on where RUN stopped.

    Args:
        shards: From `siamese-jax prepare`.
        run: Folder for checkpoint/ and training.jsonl.
        config: The experiment.
        init_from: Checkpoint (or exported bundle) whose parameters a new run starts from; without a preset's name, the
            configuration starts from the checkpoint's too.
        devices: How many devices of this machine; default all there are. On a CPU, N devices are forced.
        stop_at: Save and end after this step, as a time limit would; the same command resumes.
        allow_training_patients: Validate on patients that the checkpoint to start from learnt from, too.
        tensorboard: Write the log for TensorBoard too, to RUN/tensorboard.
        profile: Leave a trace of a few steps in RUN/profile.
        processes: Several processes that train together.
    """

    def work() -> int:
        return _train(
            shards,
            run,
            config,
            init_from,
            processes,
            devices=devices,
            stop_at=stop_at,
            allow_training_patients=allow_training_patients,
            tensorboard=tensorboard,
            profile=profile,
        )

    if not processes.several:
        return work()
    advice = (
        "this process of the run was ended, most likely because another one was lost or gave no sign of life for"
        f" {processes.lost_after} s; the other's log tells why. Start all processes again with the same commands:"
        f" the run goes on from the last checkpoint in {run / 'checkpoint'}"
    )
    return supervised(work, advice=advice)


def _train(
    shards: Path,
    run: Path,
    config: Config,
    init_from: Path | None,
    processes: Processes,
    *,
    devices: int | None,
    **options: Any,
) -> int:
    from siamese_jax.training.parallel import choose_devices
    from siamese_jax.training.processes import is_first, join, leave

    if processes.several:
        join(
            processes.coordinator,
            processes.process_id,
            processes.num_processes,
            cluster=processes.cluster,
            lost_after_seconds=processes.lost_after,
        )
    chosen = choose_devices(devices)
    use_compilation_cache()
    from siamese_jax import checkpoints
    from siamese_jax.cohort.report import refuse_unfinished
    from siamese_jax.shards.schema import open_shards
    from siamese_jax.training.loop import train as run_training
    from siamese_jax.training.profile import how_to_open

    refuse_unfinished(shards)
    validation = shards / "validation"
    training = tuple(open_shards(shards / "train"))
    watched = tuple(open_shards(validation)) if any(validation.glob("*.h5")) else ()
    source = checkpoints.load(init_from) if init_from is not None else None
    say = print if is_first() else lambda text: None
    say(training_text(config, sum(len(shard.patients) for shard in training), chosen))
    with progress_bar() if is_first() else nullcontext(lambda *_: None) as progress:

        def on_step(step: int, line: Mapping[str, float]) -> None:
            progress(step_text(step, line, config), step, config.training.steps)

        outcome = run_training(
            config,
            training,
            watched,
            run,
            devices=chosen,
            init_from=source,
            on_start=say,
            on_step=on_step,
            **options,
        )
    state = "finished" if outcome.finished else "stopped; the same command goes on"
    pace = outcome.windows_per_second  # NaN if there was nothing to do
    say(f"step {outcome.step} of {config.training.steps}: {state}" + (f"; {pace:.0f} windows/s" if pace > 0 else ""))
    say(f"wrote {run / 'checkpoint'} and {run / 'training.jsonl'}")
    if options["profile"]:
        say(how_to_open(run / "profile"))
    leave()
    return OK


def train_command(arguments: Sequence[str]) -> Callable[..., int]:
    """`train`; with `--init-from CHECKPOINT` among the arguments, its configuration is the checkpoint's by default.

    A parser's defaults must be there before it reads the arguments: hence this look at them beforehand. A preset that
    is named counts as it does without a checkpoint.

    Raises:
        ValueError: not a checkpoint.
    """
    folder = _value_of("--init-from", arguments)
    if folder is None:
        return train
    default = fine_tuning(_saved_config(Path(folder)))
    presets = tyro.extras.subcommand_type_from_defaults(
        PRESETS | {"checkpoint": default},
        PRESET_HELP | {"checkpoint": "The checkpoint's own, with a short training; no need to name it."},
        prefix_names=False,
    )

    @functools.wraps(train)
    def train_from_checkpoint(*args: Any, **kwargs: Any) -> int:
        return train(*args, **kwargs)

    # tyro reads names, types and defaults off the function; `train`'s, but for the configuration's.
    del train_from_checkpoint.__wrapped__
    train_from_checkpoint.__annotations__ = train.__annotations__ | {
        "config": Annotated[presets, tyro.conf.arg(name="")]
    }
    signature = inspect.signature(train)
    parameters = [p.replace(default=default) if p.name == "config" else p for p in signature.parameters.values()]
    vars(train_from_checkpoint)["__signature__"] = signature.replace(parameters=parameters)
    return train_from_checkpoint


def _saved_config(folder: Path) -> Config:
    """A checkpoint's configuration, and no more: to load it takes JAX, which is not to be imported before a fork."""
    text = files.read_text(folder, "config.json")
    if text is None:
        raise ValueError(f"--init-from: {folder} is not a checkpoint: it has no config.json")
    tree = parse_json(text, str(folder / "config.json"))
    if not isinstance(tree, dict) or "config" not in tree:
        raise ValueError(f"--init-from: {folder / 'config.json'} holds no configuration")
    return typed(Config, tree["config"], str(folder / "config.json"))


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == flag:
            return value if equals else following
    return None


def training_text(config: Config, n_patients: int, devices: Sequence[Any]) -> str:
    """What is about to be trained, where, on how much, behind which filter."""
    n_processes = len({device.process_index for device in devices})
    where = f"{len(devices)} {devices[0].platform} device(s)" + (f" of {n_processes} processes" * (n_processes > 1))
    return (
        f"training {config.model.title} for {config.training.steps} steps of"
        f" {config.training.batch_size} windows, at learning rates up to {config.training.learning_rate:g},"
        f" on {where} by {config.training.parallel}; {n_patients} patients\n" + filter_text(config)
    )


def step_text(step: int, line: Mapping[str, float], config: Config) -> str:
    """A step's losses and the pace."""
    losses = ", ".join(f"{task} {line[f'loss/{task}']:.3f}" for task in config.tasks)
    pace = line["windows_per_second"]  # NaN after the first step, which compiled
    return f"step {step}: loss {line['loss']:.3f} ({losses})" + (f", {pace:.0f} windows/s" if pace > 0 else "")


def filter_text(config: Config) -> str:
    """The filters' gain at 0 Hz, at their edges and at the mains."""
    from siamese_jax.signals.preprocess import filter_report

    return "\n".join(
        f"filter    {kind}: " + ", ".join(f"{gain:.0f} dB at {hz:g} Hz" for hz, gain in gains.items())
        for kind, gains in filter_report(config).items()
    )
