"""Runs an exported model and holds it against its golden outputs. Needs no package of ours.

    pip install jax flatbuffers safetensors       (for model.onnx: onnxruntime safetensors)
    python run.py               checks model.stablehlo, on whatever device jax finds
    python run.py model.onnx    checks model.onnx by onnxruntime, without jax

In a program of your own, with this file beside it:

    from run import load
    predict = load("model.stablehlo")
    probabilities = predict(eeg, present)["window/ied"]

Load only files that you trust: a StableHLO or ONNX file is a program. `interface.json` says what goes in and comes out.
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

    `eeg` is float32 [batch, time, chan] in microvolts, `present` bool [batch, chan].
    """
    if Path(path).suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def run(eeg: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
            values = session.run(names, {"eeg": eeg, "present": present})
            return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

        return run
    import jax
    from jax import export

    call = jax.jit(export.deserialize(bytearray(Path(path).read_bytes())).call)
    return lambda eeg, present: {name: np.asarray(value) for name, value in call(eeg, present).items()}


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Log-odds, in which rare events count like others; beyond 0.001 and 0.999, rounding of float32 would show."""
    clipped = np.clip(probability.astype(np.float64), 1e-3, 1 - 1e-3)
    return np.log(clipped / (1 - clipped))


def check(path: Path) -> dict[str, float]:
    """The largest differences in log-odds from the golden outputs, by output, over batches of several sizes."""
    golden = load_file(path.parent / "golden.safetensors")
    eeg, present = golden.pop("eeg"), golden.pop("present")
    predict, n = load(path), len(eeg)
    worst = dict.fromkeys(golden, 0.0)
    for size in (n, 1, n - 1, 2 * n):
        index = np.arange(size) % n
        given = predict(eeg[index], present[index])
        if given.keys() != golden.keys():
            raise SystemExit(f"{path} gives {sorted(given)}, golden.safetensors holds {sorted(golden)}")
        for name, expected in golden.items():
            if given[name].shape != expected[index].shape:
                raise SystemExit(f"{name} has shape {given[name].shape}, golden.safetensors {expected[index].shape}")
            difference = np.abs(log_odds(given[name]) - log_odds(expected[index]))
            worst[name] = float(np.maximum(worst[name], difference.max()))  # NaN stays NaN
    return worst


if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    tolerance = json.loads((folder / "interface.json").read_text())["tolerance"]
    errors = check(folder / (sys.argv[1] if len(sys.argv) > 1 else "model.stablehlo"))
    print(json.dumps(errors))
    if not all(error <= tolerance for error in errors.values()):
        raise SystemExit(f"log-odds differ from those of golden.safetensors by more than {tolerance}")
