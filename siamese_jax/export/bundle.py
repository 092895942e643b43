"""A checkpoint to a bundle: programs that need neither Flax nor this package, parameters, and data to check them with.

    OUT/model.stablehlo          `forward` and its probabilities for cpu, cuda and tpu (`jax.export`), parameters inside
    OUT/model.onnx               the same for ONNX runtimes, if requested
    OUT/interface.json           what goes in and comes out: names, shapes, units, electrodes, classes, thresholds
    OUT/golden.safetensors       inputs, and what the library's own `forward` makes of them
    OUT/run.py                   loads and checks the programs without this package
    OUT/parameters.safetensors   with config.json, identity.json, operating_points.json: what `checkpoints.load` reads
    OUT/README.md                the model card

Programs are for those who trust whoever exported them. This library never runs one from a bundle: `detect` reads
the parameters and calls its own `forward`.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Bool, Float32

from siamese_jax.checkpoints import Checkpoint, write
from siamese_jax.config.experiment import Config
from siamese_jax.detection.predict import make_predictor, probabilities
from siamese_jax.evaluation.metrics import points_to_rows
from siamese_jax.export import run_bundle
from siamese_jax.export.golden import golden_inputs
from siamese_jax.export.model_card import model_card
from siamese_jax.export.onnx import check_onnx, onnx_config, to_onnx
from siamese_jax.files import replacing_folder, write_json, write_text
from siamese_jax.models.build import build_model, chosen_tasks
from siamese_jax.pipeline import forward
from siamese_jax.signals.preprocess import rows_present
from siamese_jax.tensors import write_tensors
from siamese_jax.vocabulary import TaskSpec

PLATFORMS = ("cpu", "cuda", "tpu")
STABLEHLO, ONNX = "model.stablehlo", "model.onnx"
TOLERANCE, TOLERANCE_BFLOAT16 = 1e-3, 0.3
"""Of log-odds: 0.001 moves no probability by more than 0.00025. bfloat16 has 8 bits, and is rounded elsewhere by each
compilation."""
NOT_FINITE = (
    "A window gets NaN in every output if a present electrode has a sample that is NaN or infinite, or if no row of the"
    " montage can be made of the electrodes that are present. What eeg holds of an absent electrode changes nothing."
)

PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
needed = sorted({"flax", "siamese_jax"} & set(sys.modules))
sys.exit(f"needs {needed}" if needed else 0)
"""
"""Run as `python -I`: no environment variable, no folder of ours on the path."""

Tensors = dict[str, np.ndarray]


class Exported(NamedTuple):
    """What was written and measured.

    Attributes:
        files: bytes by name.
        errors: for each program, the largest difference in log-odds from `forward`, by output.
        tolerance: what they had to keep.
    """

    files: dict[str, int]
    errors: dict[str, dict[str, float]]
    tolerance: float


def export(
    checkpoint: Checkpoint,
    out: Path,
    *,
    onnx: bool = False,
    figures: Mapping[str, Any] | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Write a bundle, run its programs in a process without Flax and this package, compare, and keep it only then.

    Args:
        checkpoint: from `checkpoints.load`.
        out: the folder to make; it may exist if it is empty.
        onnx: also write `model.onnx`.
        figures: of `siamese-jax evaluate`, for the model card.
        on_stage: told what is being done.

    Raises:
        ValueError: `out` is there already, the extra for ONNX is missing, or a program does not give what `forward`
            gives; nothing is left at `out`.
    """
    check_out(out)
    if onnx:
        check_onnx()
    with replacing_folder(out) as folder:
        return _write(folder, checkpoint, onnx=onnx, figures=figures or {}, on_stage=on_stage)


def check_out(out: Path) -> None:
    """Raise a ValueError unless a bundle may be written there."""
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise ValueError(f"{out} is there already: an export goes into a folder of its own")


def serving(
    config: Config, checkpoint: Checkpoint
) -> Callable[[Float32[Array, "batch time chan"], Bool[Array, "batch chan"]], dict[str, Array]]:
    """`forward` and probabilities as one function of `eeg` and `present`, the parameters inside.

    Its outputs are `window/<task>` [batch, class] and, if the model keeps frames, `frame/<task>` [batch, frame, class];
    `NOT_FINITE` is kept.
    """
    model, tasks = build_model(config, checkpoint.tasks), chosen_tasks(config, checkpoint.tasks)

    def serve(eeg: Array, present: Array) -> dict[str, Array]:
        # Whoever calls a program may ask about a window in which the model would see nothing; `detect` refuses it.
        sees = rows_present(config, present).any(-1)
        logits = forward(config, model, checkpoint.variables, eeg, present)
        outputs = {}
        for place, by_task in logits._asdict().items():
            for task in tasks:
                if task.name in by_task:
                    ways = {"multiclass": jax.nn.softmax, "binary": jax.nn.sigmoid, "multilabel": jax.nn.sigmoid}
                    values = ways[task.kind](by_task[task.name])
                    outputs[f"{place}/{task.name}"] = jnp.where(
                        sees.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan
                    )
        return outputs

    return serve


def stablehlo(checkpoint: Checkpoint) -> bytes:
    """`serving` as one serialised program for every platform and any number of windows."""
    config = checkpoint.config
    (batch,) = jax_export.symbolic_shape("batch")
    n_chans = len(config.data.ch_names)
    shapes = (
        jax.ShapeDtypeStruct((batch, config.n_times + 2 * config.margin, n_chans), jnp.float32),
        jax.ShapeDtypeStruct((batch, n_chans), jnp.bool_),
    )
    return bytes(jax_export.export(jax.jit(serving(config, checkpoint)), platforms=PLATFORMS)(*shapes).serialize())


def golden_outputs(checkpoint: Checkpoint, inputs: Tensors) -> Tensors:
    """What the library itself makes of them: `forward` as `detect` calls it, then its probabilities."""
    predictor = make_predictor(checkpoint.config, checkpoint.tasks)
    logits = predictor(checkpoint.variables, inputs["eeg"], inputs["present"])
    by_name = {task.name: task for task in checkpoint.tasks}
    return {
        f"{place}/{name}": probabilities(by_name[name], np.asarray(values))
        for place, by_task in logits._asdict().items()
        for name, values in by_task.items()
    }


def interface(checkpoint: Checkpoint, golden: Tensors, programs: Mapping[str, bytes]) -> dict[str, Any]:
    """All that a programmer without this package needs to call the programs."""
    config, n_chans = checkpoint.config, len(checkpoint.config.data.ch_names)
    tasks = {task.name: task for task in checkpoint.tasks}
    axes = {"window": ["batch", "class"], "frame": ["batch", "frame", "class"]}
    eeg_shape = ["batch", config.n_times + 2 * config.margin, n_chans]
    return {
        "format": 1,
        "programs": {
            name: {"bytes": len(program), "sha256": hashlib.sha256(program).hexdigest()}
            for name, program in programs.items()
        },
        "platforms": {STABLEHLO: list(PLATFORMS)},
        "inputs": {
            "eeg": {"dtype": "float32", "shape": eeg_shape, "axes": ["batch", "time", "chan"], "unit": "microvolt"},
            "present": {"dtype": "bool", "shape": ["batch", n_chans], "axes": ["batch", "chan"]},
        },
        "outputs": {
            name: {
                "dtype": "float32",
                "shape": ["batch", *value.shape[1:]],
                "axes": axes[name.partition("/")[0]],
                "classes": _columns(tasks[name.partition("/")[2]]),
                "meaning": "probability",
            }
            for name, value in golden.items()
            if "/" in name
        },
        "not_finite": NOT_FINITE,
        "ch_names": list(config.data.ch_names),
        "sfreq_hz": config.data.sfreq,
        "window_seconds": config.data.window_seconds,
        "window_samples": config.n_times,
        "margin_samples": config.margin,
        "frame_seconds": config.frame_seconds,
        "first_frame_seconds": 0.0,
        "tasks": [asdict(task) for task in chosen_tasks(config, checkpoint.tasks)],
        "operating_points": points_to_rows(checkpoint.points),
        "trained_on": list(checkpoint.trained_on),
        "step": checkpoint.step,
        "tolerance": _tolerance(config),
        "versions": {name: version(name) for name in ("siamese-jax", "jax", "flax", "numpy")},
    }


def _write(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    onnx: bool,
    figures: Mapping[str, Any],
    on_stage: Callable[[str], None],
) -> Exported:
    on_stage("golden outputs by forward")
    golden = golden_inputs(checkpoint.config)
    outputs = golden_outputs(checkpoint, golden)
    if not all(np.isfinite(value).all() for value in outputs.values()):
        raise ValueError("the checkpoint gives numbers that are not finite: it is not exported")
    on_stage("StableHLO")
    programs = {STABLEHLO: stablehlo(checkpoint)}
    if onnx:
        on_stage("ONNX")
        config = onnx_config(checkpoint.config)
        programs[ONNX] = to_onnx(serving(config, checkpoint), config, sorted(outputs))
    for name, program in programs.items():
        (folder / name).write_bytes(program)
    write(folder, checkpoint)
    write_tensors(folder / "golden.safetensors", golden | outputs, notes={})
    described = interface(checkpoint, golden | outputs, programs)
    write_json(folder / "interface.json", described)
    shutil.copyfile(Path(run_bundle.__file__), folder / "run.py")
    errors = {}
    for name in programs:
        on_stage(f"running {name} in a fresh process")
        errors[name] = verify(folder, name)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    card = model_card(checkpoint, figures, files=files, errors=errors, interface=described)
    write_text(folder / "README.md", card)
    return Exported(files | {"README.md": (folder / "README.md").stat().st_size}, errors, described["tolerance"])


def verify(folder: Path, program: str) -> dict[str, float]:
    """Runs a bundle's `run.py` in a process of its own: the largest difference in log-odds, by output.

    Raises:
        ValueError: the program does not run, needs Flax or this package, or differs by more than the tolerance.
    """
    command = [sys.executable, "-I", "-c", PROGRAM, str(folder / "run.py"), program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(f"{program} failed in a fresh process, nothing is kept: {said[-1]} {done.stdout.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def _columns(task: TaskSpec) -> list[str]:
    return [task.classes[1]] if task.kind == "binary" else list(task.classes)


def _tolerance(config: Config) -> float:
    in_float32 = replace(config, model=replace(config.model, dtype="float32"))
    return TOLERANCE if config == in_float32 else TOLERANCE_BFLOAT16
