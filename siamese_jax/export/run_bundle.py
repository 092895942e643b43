"""Runs an exported model and holds it against its golden outputs. Needs no package of ours.

    pip install jax flatbuffers safetensors       (for model.onnx: onnxruntime safetensors)
    python run.py               checks model.stablehlo, on whatever device jax finds
    python run.py model.onnx    checks model.onnx by onnxruntime, without jax

In a program of your own, with this file beside it:

    from run import load
    predict = load("model.stablehlo")
    probabilities = predict(eeg, present)["window/ied"]

Load only files that you trust: a StableHLO or ONNX file is a program. `interface.json` describes inputs and outputs.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

Predict = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


def load(path: str | Path) -> Predict:
    """`predict(eeg, present)` of a model.stablehlo or model.onnx: probabilities by name, for batches of any size.

    `eeg` is float32 [batch, time, chan] in microvolts, `present` bool [batch, chan]. What windows get that cannot be
    judged (NaN in every output) is described under `not_finite` in `interface.json`.
    """
    run = _onnx(Path(path)) if Path(path).suffix == ".onnx" else _stablehlo(Path(path))

    def predict(eeg: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
        if len(eeg):
            return run(eeg, present)
        # ONNX Runtime ends the process at a batch of 0 (its issue 1879): the outputs of one window, less that window.
        one = run(np.zeros((1, *eeg.shape[1:]), np.float32), np.zeros((1, *present.shape[1:]), bool))
        return {name: value[:0] for name, value in one.items()}

    return predict


def _stablehlo(path: Path) -> Predict:
    import jax
    from jax import export

    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda eeg, present: {name: np.asarray(value) for name, value in call(eeg, present).items()}


def _onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(eeg: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
        values = session.run(names, {"eeg": eeg, "present": present})
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    return run


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Log-odds, in which rare events count like others, with 0.001 added to both chances.

    Without that, rounding of float32 would show near 0 and 1. A program that gives 0 differs from 0.0001 by 0.1.
    """
    p = probability.astype(np.float64)
    return np.log((p + 1e-3) / (1 - p + 1e-3))


def check(path: Path, tolerance: float) -> dict[str, float]:
    """The largest differences in log-odds from the golden outputs, by output, over batches of several sizes.

    Golden outputs that vary so little that a constant would pass, a window with a NaN that gets an output, and a batch
    of 0 windows that gets none, end the program.
    """
    golden = load_file(path.parent / "golden.safetensors")
    eeg, present = golden.pop("eeg"), golden.pop("present")
    predict, n = load(path), len(eeg)
    for name, expected in golden.items():
        spread = np.ptp(log_odds(expected).reshape(-1, expected.shape[-1]), axis=0).max()
        if not spread > 2 * tolerance:
            raise SystemExit(f"golden outputs {name} do not vary (log-odds by {spread:.1e}): a constant would pass")
    worst = dict.fromkeys(golden, 0.0)
    for size in (n, 1, n - 1, 2 * n, 0):
        index = np.arange(size) % n
        given = predict(eeg[index], present[index])
        if given.keys() != golden.keys():
            raise SystemExit(f"{path} gives {sorted(given)}, golden.safetensors holds {sorted(golden)}")
        for name, expected in golden.items():
            if given[name].shape != expected[index].shape:
                raise SystemExit(f"{name} has shape {given[name].shape}, golden.safetensors {expected[index].shape}")
            difference = np.abs(log_odds(given[name]) - log_odds(expected[index]))
            worst[name] = float(np.maximum(worst[name], difference.max(initial=0.0)))  # NaN stays NaN
    broken = eeg.copy()
    broken[np.arange(n), eeg.shape[1] // 2, present.argmax(axis=1)] = np.resize([np.nan, np.inf, -np.inf], n)
    for name, value in predict(broken, present).items():
        if not np.isnan(value).all():
            raise SystemExit(
                f"{name} gives numbers for a window with a sample that is not finite in a present electrode"
            )
    return worst


if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    tolerance = json.loads((folder / "interface.json").read_text())["tolerance"]
    errors = check(folder / (sys.argv[1] if len(sys.argv) > 1 else "model.stablehlo"), tolerance)
    print(json.dumps(errors))
    if not all(error <= tolerance for error in errors.values()):
        raise SystemExit(f"log-odds differ from those of golden.safetensors by more than {tolerance}")
