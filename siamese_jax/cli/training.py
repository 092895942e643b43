"""The command `train`."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from siamese_jax.cli.console import (
    INTERRUPTED,
    MISTAKES,
    NOT_ANALYSED,
    OK,
    PEER_LOST,
    print_error,
    progress_bar,
    use_compilation_cache,
)
from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import PRESETS, PresetName, fine_tuning

BROKEN = ("UNKNOWN: ", "INTERNAL: ", "UNAVAILABLE: ", "ABORTED: ", "CANCELLED: ", "DEADLINE_EXCEEDED: ")
"""How JAX's message about a broken collective begins. The fast path of `jit` raises it as a ValueError."""


@dataclass(frozen=True)
class Start:
    """What a run starts from: a configuration, and parameters at random or those of a checkpoint."""

    preset: PresetName | None = None
    """`small` (ours, 200 Hz), `paper` (as published, 29 leads at 500 Hz), `ecg` (ours, 12 leads), or a network that
    Siamese-ES is compared with, with all that it needs; default the checkpoint's configuration, or `small`."""
    init_from: Path | None = None
    """Run, checkpoint or bundle that a new run starts from; without --preset the configuration is its own, too, with a
    short, careful training."""

    def config(self) -> Config:
        """The configuration, before any other flag changes it.

        Raises:
            ValueError: not a checkpoint.
        """
        if self.preset is None and self.init_from is not None:
            from siamese_jax.checkpoints import find_folder, read_description

            return fine_tuning(read_description(find_folder(self.init_from)).config)
        return PRESETS[self.preset or "small"]


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
        """Whether any option was given."""
        return self.cluster or any(x is not None for x in (self.coordinator, self.process_id, self.num_processes))


def train(
    shards: Annotated[Path, Positional, tyro.conf.arg(metavar="SHARDS")],
    run: Annotated[Path, Positional, tyro.conf.arg(metavar="RUN")],
    config: Annotated[Config, tyro.conf.arg(name="")] = PRESETS["small"],  # noqa: B008
    *,
    start: Annotated[Start, tyro.conf.arg(name="")] = Start(),
    devices: int | None = None,
    stop_at: int | None = None,
    allow_training_patients: bool = False,
    tensorboard: bool = False,
    profile: bool = False,
    processes: Annotated[Processes, tyro.conf.arg(name="")] = Processes(),
) -> int:
    """Trains on SHARDS/train, watching SHARDS/validation; resumes the run that RUN holds.

    Example: siamese-jax train shards runs/mine --preset small --training.steps 2000

    Args:
        shards: From `siamese-jax prepare`.
        run: Folder for checkpoint/ and training.jsonl.
        config: The experiment; on the command line each flag changes one field of the preset's or the checkpoint's.
        start: What the run starts from.
        devices: How many devices of this machine; default all there are. On a CPU, N devices are forced.
        stop_at: Save and end after this step, as a time limit would; the same command resumes.
        allow_training_patients: Validate on patients that the checkpoint to start from learnt from, too.
        tensorboard: Write the log for TensorBoard too, to RUN/tensorboard.
        profile: Leave a trace of a few steps in RUN/profile.
        processes: Several processes that train together.
    """
    work = partial(
        _train,
        shards,
        run,
        config,
        start.init_from,
        processes,
        devices=devices,
        stop_at=stop_at,
        allow_training_patients=allow_training_patients,
        tensorboard=tensorboard,
        profile=profile,
    )
    return as_one_of_several(work, advice(processes, run)) if processes.several else work()


def advice(processes: Processes, run: Path) -> str:
    """What to do when one of several processes is lost."""
    return (
        f"If a process of this run is lost or gives no sign of life for {processes.lost_after} s, JAX ends all others."
        f" Then start all processes again with the same commands: the run resumes from the last checkpoint in"
        f" {run / 'checkpoint'}."
    )


def as_one_of_several(work: Callable[[], int], advice: str) -> int:
    """The exit code of `work`; a failure ends this process at once.

    JAX's own way out waits for all other processes, which may wait for this one. The advice is printed first too: when
    JAX ends a process whose peer is lost, it does so by SIGABRT, without a word that a user understands.
    """
    print(advice)
    code = 1  # of a mistake of ours, with its stack trace
    try:
        return work()
    except KeyboardInterrupt:
        print("interrupted; the same commands resume", file=sys.stderr)
        code = INTERRUPTED
    except (RuntimeError, *MISTAKES) as error:
        code = _code_of(error)
        print_error(error if code == NOT_ANALYSED else str(error).partition("\n")[0])
        if code == PEER_LOST:
            print(advice, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _code_of(error: Exception) -> int:
    if isinstance(error, RuntimeError | TimeoutError):  # a collective of JAX or a barrier of Orbax that failed
        return 1 if "RESOURCE_EXHAUSTED" in str(error) else PEER_LOST
    return PEER_LOST if str(error).startswith(BROKEN) else NOT_ANALYSED


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
    from siamese_jax.api import open_for_training
    from siamese_jax.locks import locked
    from siamese_jax.training.loop import train as run_training
    from siamese_jax.training.profile import how_to_open

    training, watched = open_for_training(shards)
    source = checkpoints.load(init_from) if init_from is not None else None
    say = print if is_first() else lambda text: None
    say(training_text(config, sum(len(shard.patients) for shard in training), chosen))
    shared = locked(run) if is_first() else nullcontext()
    with shared as note, progress_bar() if is_first() else nullcontext(lambda *_: None) as progress:
        if note:
            say(f"note      {note}")

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
    state = "finished" if outcome.finished else "stopped; the same command resumes"
    pace = outcome.windows_per_second  # NaN if there was nothing to do
    say(f"step {outcome.step} of {config.training.steps}: {state}" + (f"; {pace:.0f} windows/s" if pace > 0 else ""))
    say(f"wrote {run / 'checkpoint'} and {run / 'training.jsonl'}")
    if options["profile"]:
        say(how_to_open(run / "profile"))
    leave()
    return OK


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
