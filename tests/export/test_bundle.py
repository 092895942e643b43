"""What leaves the house gives what `forward` gives, is described truly, and is not kept where it does not."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from functools import partial
from importlib import import_module, util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from scipy import special

from siamese_jax import checkpoints
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.export import bundle as room
from siamese_jax.export import onnx, run_bundle
from siamese_jax.forward import forward, initialise
from siamese_jax.models import efficientnet
from siamese_jax.models.build import build_model
from siamese_jax.tensors import named
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec

needs_onnx = pytest.mark.skipif(
    jax.__version_info__ >= onnx.TOO_NEW or any(util.find_spec(name) is None for name in onnx.LIBRARIES),
    reason="the extra for ONNX is not installed, or does not know this JAX",
)
PLACES = TaskSpec("place", "multilabel", ("frontal", "temporal", "occipital"))
TASKS = (IED, SLEEP, PLACES)
POINT = {"task": "ied", "criterion": "max_f1", "threshold": 0.25, "n_windows": 9} | dict.fromkeys(
    ("sensitivity", "precision", "specificity", "f1", "prevalence"), 0.5
)


def changed(config, **sections):
    new = {k: dataclasses.replace(getattr(config, k), **v) if isinstance(v, dict) else v for k, v in sections.items()}
    return dataclasses.replace(config, **new)


def checkpoint_of(config, tasks=TASKS) -> Checkpoint:
    """As if trained: statistics and heads that make logits differ from window to window."""
    variables = initialise(config, tasks, jax.random.key(0))
    rng = np.random.default_rng(1)
    stats = jax.tree.map(
        lambda x: np.float32(0.7) * x + rng.uniform(0, 0.3, x.shape).astype("f4"), variables["batch_stats"]
    )
    params = jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape).astype("f4"), variables["params"])
    variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": stats})
    return Checkpoint(config, tasks, ("SIMULATED | <b>test",), variables, json.dumps([POINT]), 12)


def inputs_of(config, n, *, seed=3):
    """Noise of 30 uV with offsets; from each window another electrode is absent, and holds anything."""
    rng = np.random.default_rng(seed)
    n_chans = len(config.data.ch_names)
    eeg = rng.normal(0, 30, (n, config.n_times + 2 * config.margin, n_chans)) + rng.uniform(-200, 200, (n, 1, n_chans))
    present = np.ones((n, n_chans), bool)
    present[np.arange(n), np.arange(n) % n_chans] = False
    return np.where(present[:, None], eeg, np.inf).astype(np.float32), present


def expected(checkpoint, eeg, present):
    """By the library's forward and SciPy's functions."""
    config = checkpoint.config
    run = jax.jit(partial(forward, config, build_model(config, checkpoint.tasks)))
    logits = run(checkpoint.variables, eeg, present)
    ways = {"multiclass": lambda x: special.softmax(x, -1), "binary": special.expit, "multilabel": special.expit}
    kinds = {task.name: task.kind for task in checkpoint.tasks}
    return {
        f"{place}/{name}": ways[kinds[name]](np.asarray(values, np.float64))
        for place, by_task in logits._asdict().items()
        for name, values in by_task.items()
    }


def assert_close(given, wanted, tolerance=1e-5):
    assert given.keys() == wanted.keys()
    for name, values in wanted.items():
        assert given[name].shape == values.shape and given[name].dtype == np.float32
        np.testing.assert_allclose(given[name], values, atol=tolerance, err_msg=name)


@pytest.fixture
def checkpoint(tiny):
    return checkpoint_of(changed(tiny, tasks=("ied", "sleep", "place")))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Exported and verified, once."""
    from tests.conftest import tiny

    checkpoint = checkpoint_of(changed(tiny.__wrapped__(), tasks=("ied", "sleep", "place")))
    out = tmp_path_factory.mktemp("exports") / "bundle"
    figures = {
        "patients": 8,
        "windows": 99,
        "ied": {"auroc": {"value": 0.876, "low": 0.8, "high": None}},
        "data": ["x"],
    }
    return out, checkpoint, room.export(checkpoint, out, figures=figures)


def test_the_program_gives_what_forward_gives_for_windows_it_was_not_checked_with(bundle):
    out, checkpoint, exported = bundle
    predict = run_bundle.load(out / "model.stablehlo")
    for n in (1, 7):
        eeg, present = inputs_of(checkpoint.config, n)
        wanted = expected(checkpoint, eeg, present)
        assert_close(predict(eeg, present), wanted)
    assert min(np.ptp(wanted[name]) for name in ("window/ied", "window/sleep", "frame/place")) > 0.02
    assert set(exported.errors["model.stablehlo"]) == set(wanted)
    assert all(0 <= error < 1e-3 for error in exported.errors["model.stablehlo"].values())


def test_golden_outputs_are_forward_s_and_tell_windows_apart(bundle):
    out, checkpoint, _ = bundle
    golden = room.golden_inputs(checkpoint.config)
    outputs = room.golden_outputs(checkpoint, golden)
    assert_close(outputs, expected(checkpoint, golden["eeg"], golden["present"]), tolerance=2e-6)
    assert np.ptp(outputs["window/ied"]) > 0.02
    assert golden["present"].sum(1).tolist() == [5, 5, 4, 3, 2] or golden["present"].sum() < golden["present"].size
    assert np.isnan(golden["eeg"]).any((1,)).sum() == (~golden["present"]).sum()
    saved = named(checkpoints.load(out).variables)
    np.testing.assert_array_equal(saved["params/head_ied/bias"], checkpoint.variables["params"]["head_ied"]["bias"])


def test_one_program_is_for_every_platform_and_any_number_of_windows(bundle):
    out, checkpoint, _ = bundle
    program = jax_export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    eeg, present = program.in_avals
    assert (str(eeg), str(present)) == ("float32[batch,256,5]", "bool[batch,5]")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_pools_features_exports_windows_alone(tiny, dtype):
    config = changed(tiny, model={"pooling": "average", "fusion": "gated", "dtype": dtype})
    checkpoint = checkpoint_of(config, (IED, SLEEP))
    call = jax_export.deserialize(bytearray(room.stablehlo(checkpoint))).call
    eeg, present = inputs_of(config, 3)
    given = {name: np.asarray(value) for name, value in jax.jit(call)(eeg, present).items()}
    assert set(given) == {"window/ied", "window/sleep"}
    assert_close(given, expected(checkpoint, eeg, present), tolerance=1e-5 if dtype == "float32" else 3e-2)


def test_the_interface_is_all_that_a_stranger_needs(bundle):
    """Called by what the file says, and by nothing else."""
    out, checkpoint, _ = bundle
    said = json.loads((out / "interface.json").read_text())
    ways = {"float32": np.float32, "bool": bool}
    shapes = {name: [3 if n == "batch" else n for n in i["shape"]] for name, i in said["inputs"].items()}
    arrays = {name: np.ones(shape, ways[said["inputs"][name]["dtype"]]) for name, shape in shapes.items()}
    given = run_bundle.load(out / "model.stablehlo")(arrays["eeg"], arrays["present"])
    assert {name: list(value.shape) for name, value in given.items()} == {
        name: [3 if n == "batch" else n for n in output["shape"]] for name, output in said["outputs"].items()
    }
    assert all(len(o["classes"]) == o["shape"][-1] for o in said["outputs"].values())
    assert said["outputs"]["window/ied"]["classes"] == ["ied"]
    assert said["outputs"]["frame/sleep"]["classes"] == ["W", "N1", "N2", "N3", "R"]
    np.testing.assert_allclose(given["window/sleep"].sum(-1), 1, rtol=1e-6)
    config = checkpoint.config
    assert (said["ch_names"], said["sfreq_hz"], said["window_samples"]) == (["F3", "F4", "C3", "C4", "Cz"], 100.0, 100)
    assert said["window_samples"] + 2 * said["margin_samples"] == said["inputs"]["eeg"]["shape"][1]
    assert said["outputs"]["frame/ied"]["shape"][1] == 100 / (said["frame_seconds"] * 100) + 1 == config.n_frames
    assert said["operating_points"] == [POINT] and said["step"] == 12
    program = (out / "model.stablehlo").read_bytes()
    assert said["programs"]["model.stablehlo"]["sha256"] == hashlib.sha256(program).hexdigest()


def test_the_card_says_what_it_is_and_its_code_runs(bundle):
    out, _, exported = bundle
    card = (out / "README.md").read_text()
    for words in (
        "Research use only",
        "Trained on: SIMULATED / (b)test. **Simulated signals",
        "| ied, auroc | 0.876 | 0.800 to - |",
        "8 test patients, 99 test windows, of x",
        "| ied | max_f1 | 0.250 | 0.500 | 0.500 |",
        "F3 F4 C3 C4 Cz",
        f"{exported.errors['model.stablehlo']['window/ied']:.1e}",
    ):
        assert words in card, words
    code = card.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-I", "-c", code + "print({k: v.shape for k, v in probabilities.items()})"],
        cwd=out,
        capture_output=True,
        text=True,
    )
    assert "'window/sleep': (1, 5)" in done.stdout, done.stderr


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_program_that_gives_something_else_is_not_kept(checkpoint, tmp_path, monkeypatch):
    other = checkpoint._replace(variables=jax.tree.map(lambda x: x * np.float32(1.01), checkpoint.variables))
    monkeypatch.setattr(room, "stablehlo", lambda _, make=room.stablehlo: make(other))
    with pytest.raises(
        ValueError, match=r"model.stablehlo failed in a fresh process, nothing is kept: log-odds differ"
    ):
        room.export(checkpoint, tmp_path / "out")
    assert left(tmp_path) == []


@pytest.mark.parametrize("module", ["flax", "siamese_jax"])
def test_a_program_that_needs_us_is_not_kept(checkpoint, tmp_path, monkeypatch, module):
    script = tmp_path / "script.py"
    script.write_text(f"import {module}\nprint('{{}}')\n")
    monkeypatch.setattr(run_bundle, "__file__", str(script))
    with pytest.raises(ValueError, match=rf"needs \['{module}'\]"):
        room.export(checkpoint, tmp_path / "out")
    assert left(tmp_path) == ["script.py"]


def test_an_interrupted_export_leaves_nothing(checkpoint, tmp_path):
    def interrupt(stage):
        if stage == "StableHLO":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        room.export(checkpoint, tmp_path / "out", on_stage=interrupt)
    assert left(tmp_path) == []


def test_a_checkpoint_that_gives_nan_is_not_exported(checkpoint, tmp_path):
    broken = jax.tree.map(lambda x: x * np.float32(1e30), checkpoint.variables)
    with pytest.raises(ValueError, match="not finite: it is not worth an export"):
        room.export(checkpoint._replace(variables=broken), tmp_path / "out")
    assert left(tmp_path) == []


def test_a_folder_with_something_in_it_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("out", "out/thesis.txt", "link"):
        with pytest.raises(ValueError, match=f"{name} is there already: an export goes into a folder of its own"):
            room.export(checkpoint, tmp_path / name)
    assert left(tmp_path) == ["link", "out"] and left(tmp_path / "out") == ["thesis.txt"]


def test_an_empty_folder_is_filled(bundle, tmp_path, monkeypatch):
    _, checkpoint, _ = bundle
    monkeypatch.setattr(room, "verify", lambda folder, program: {"window/ied": 0.0})
    (tmp_path / "out").mkdir()
    room.export(checkpoint, tmp_path / "out")
    assert left(tmp_path / "out") == sorted(
        "README.md config.json golden.safetensors interface.json model.stablehlo operating_points.json"
        " parameters.safetensors run.py".split()
    )


# --- ONNX ---


def test_without_the_extra_it_says_what_to_install(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "TOO_NEW", (99,))
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"ONNX needs jax2onnx, onnx, onnxruntime: pip install jax2onnx onnx onnxruntime"
    ):
        room.export(checkpoint, tmp_path / "out", onnx=True)
    assert left(tmp_path) == []


ABLATIONS = {
    "frames": {},
    "average, film, log, lowered rate": {
        "data": {"sfreq": 250.0},
        "preprocess": {"sfreq": 100.0, "montage": "referential"},
        "converter": {"amplitude": "log"},
        "model": {"pooling": "average", "fusion": "film"},
    },
    "paper blocks, window scaling, bfloat16": {
        "preprocess": {"scaling": "window"},
        "model": {"size": "paper", "width": 0.1, "pooling": "average", "dtype": "bfloat16"},
    },
}


def test_a_jax_that_the_onnx_converter_does_not_know_is_one_sentence(monkeypatch):
    monkeypatch.setattr(onnx, "TOO_NEW", (0, 1))
    with pytest.raises(ValueError, match=r"ONNX needs a JAX that jax2onnx knows, here is .*: pip install 'jax<0.12'"):
        onnx.check_onnx()


@needs_onnx
@pytest.mark.parametrize("name", ABLATIONS)
def test_onnx_gives_what_forward_gives_for_any_number_of_windows(tiny, tmp_path, monkeypatch, name):
    # One block of each stage: the others are like it.
    monkeypatch.setattr(efficientnet, "RW_T", tuple(stage._replace(repeats=1) for stage in efficientnet.RW_T))
    config = changed(tiny, tasks=("ied", "sleep", "place"), **ABLATIONS[name])
    checkpoint = checkpoint_of(config)
    exact = onnx.onnx_config(config)
    outputs = sorted(expected(checkpoint, *inputs_of(config, 1)))
    program = onnx.to_onnx(room.serving(exact, checkpoint), exact, outputs)
    (tmp_path / "model.onnx").write_bytes(program)
    predict = run_bundle.load(tmp_path / "model.onnx")
    for n in (1, 4):
        eeg, present = inputs_of(config, n)
        # In float32: ONNX knows no other here.
        wanted = expected(checkpoint._replace(config=changed(config, model={"dtype": "float32"})), eeg, present)
        assert_close(predict(eeg, present), wanted, tolerance=1e-4)


@needs_onnx
def test_onnx_is_verified_like_the_other_and_the_converter_leaves_jax_as_it_was(checkpoint, tmp_path, capfd):
    eeg, present = inputs_of(checkpoint.config, 2)
    before = expected(checkpoint, eeg, present)
    exported = room.export(checkpoint, tmp_path / "out", onnx=True)
    assert set(exported.errors) == {"model.stablehlo", "model.onnx"} and exported.files["model.onnx"] > 50_000
    assert all(error < 1e-3 for error in exported.errors["model.onnx"].values())
    for name, values in expected(checkpoint, eeg, present).items():
        np.testing.assert_array_equal(values, before[name])
    said = capfd.readouterr()
    assert said.out == "" and "onnx" not in said.err.lower()
    import_module("onnx").checker.check_model(str(tmp_path / "out" / "model.onnx"))
