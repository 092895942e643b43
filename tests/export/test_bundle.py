"""An exported program gives what `forward` gives and is described correctly; otherwise it is not kept."""

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
from siamese_jax.models import efficientnet
from siamese_jax.models.build import build_model
from siamese_jax.pipeline import forward, initialise
from siamese_jax.tensors import named
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec
from tests.identities import learnt_from, thresholds_of

HAS_ONNX = jax.__version_info__ < onnx.TOO_NEW and all(util.find_spec(name) for name in onnx.LIBRARIES)
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the extra for ONNX is not installed, or does not know this JAX")
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
    return Checkpoint(config, tasks, variables, 12, learnt_from("SIMULATED | <b>test"), thresholds_of([POINT]))


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
    """Exported and verified, once; with ONNX where that is installed."""
    from tests.conftest import tiny

    checkpoint = checkpoint_of(changed(tiny.__wrapped__(), tasks=("ied", "sleep", "place")))
    out = tmp_path_factory.mktemp("exports") / "bundle"
    figures = {
        "patients": 8,
        "windows": 99,
        "ied": {"auroc": {"value": 0.876, "low": None, "high": None, "n_patients": 8}},
        "data": ["x"],
    }
    return out, checkpoint, room.export(checkpoint, out, figures=figures, onnx=HAS_ONNX)


@pytest.fixture(params=["model.stablehlo", pytest.param("model.onnx", marks=needs_onnx)])
def program(request, bundle):
    """`predict` of a program of the bundle, loaded as `run.py` does."""
    return run_bundle.load(bundle[0] / request.param)


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


def test_golden_outputs_are_forward_s(bundle):
    out, checkpoint, _ = bundle
    golden = room.golden_inputs(checkpoint.config)
    outputs = room.golden_outputs(checkpoint, golden)
    assert_close(outputs, expected(checkpoint, golden["eeg"], golden["present"]), tolerance=2e-6)
    saved = named(checkpoints.load(out).variables)
    np.testing.assert_array_equal(saved["params/head_ied/bias"], checkpoint.variables["params"]["head_ied"]["bias"])


# --- windows that cannot be judged ---


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_makes_its_window_nan_and_no_other(bundle, program, value):
    checkpoint = bundle[1]
    eeg, present = inputs_of(checkpoint.config, 4)
    whole = program(eeg, present)
    eeg[2, 0, 1] = value  # in the margin
    given = program(eeg, present)
    for name, values in given.items():
        assert np.isnan(values[2]).all(), name
        np.testing.assert_array_equal(np.delete(values, 2, 0), np.delete(whole[name], 2, 0))
    wanted = expected(checkpoint, eeg, present)
    for name in given:
        np.testing.assert_array_equal(np.isnan(given[name]), np.isnan(wanted[name]), err_msg=name)


def test_a_window_of_which_no_row_can_be_made_is_nan(bundle, program):
    """Of the common average, one electrode makes none."""
    eeg, present = inputs_of(bundle[1].config, 3)
    present[0], present[1] = False, [True, False, False, False, False]
    given = program(np.nan_to_num(eeg, posinf=0), present)
    for values in given.values():
        assert np.isnan(values[:2]).all() and np.isfinite(values[2]).all()


def test_a_batch_of_0_windows_has_0_outputs(bundle, program):
    described = json.loads((bundle[0] / "interface.json").read_text())["outputs"]
    given = program(np.zeros((0, 256, 5), np.float32), np.zeros((0, 5), bool))
    assert {name: list(value.shape) for name, value in given.items()} == {
        name: [0, *output["shape"][1:]] for name, output in described.items()
    }
    assert all(value.dtype == np.float32 for value in given.values())


def test_the_rule_stands_in_the_bundle(bundle):
    assert json.loads((bundle[0] / "interface.json").read_text())["not_finite"] == room.NOT_FINITE
    assert room.NOT_FINITE in (bundle[0] / "README.md").read_text()


# --- what verification sees ---

SWAPPED = [1, 0, 2, 3, 4]
WRONG = {
    "zeros": lambda run, eeg, present: {k: np.zeros_like(v) for k, v in run(eeg, present).items()},
    "constants": lambda run, eeg, present: {
        k: np.broadcast_to(v.mean((0, *range(1, v.ndim - 1))), v.shape) for k, v in run(eeg, present).items()
    },
    "two electrodes swapped": lambda run, eeg, present: run(eeg[..., SWAPPED], present[:, SWAPPED]),
    "no electrode absent": lambda run, eeg, present: run(np.nan_to_num(eeg), np.ones_like(present)),
    "other units": lambda run, eeg, present: run(eeg / 1000, present),
    "a sample later": lambda run, eeg, present: run(np.roll(eeg, 1, axis=1), present),
    "frames shifted by one": lambda run, eeg, present: {
        k: np.roll(v, 1, axis=1) if k.startswith("frame") else v for k, v in run(eeg, present).items()
    },
    "windows in another order": lambda run, eeg, present: {k: v[::-1] for k, v in run(eeg, present).items()},
}


def verified_with(monkeypatch, out, wrong):
    """What `run.py` measures of a program that is wrong in some way."""
    run = run_bundle.load(out / "model.stablehlo")
    monkeypatch.setattr(run_bundle, "load", lambda path: lambda eeg, present: wrong(run, eeg, present))
    return run_bundle.check(out / "model.stablehlo", room.TOLERANCE)


@pytest.mark.parametrize("name", WRONG)
def test_a_program_that_is_wrong_is_seen_in_the_golden_outputs(bundle, monkeypatch, name):
    def wrong(run, eeg, present):
        as_it_is = run(eeg, present)
        if not len(eeg) or all(np.isnan(value).all() for value in as_it_is.values()):
            return as_it_is  # wrong in its answers alone
        return WRONG[name](run, eeg, present)

    errors = verified_with(monkeypatch, bundle[0], wrong)
    seen = {output for output, error in errors.items() if not error <= 10 * room.TOLERANCE}
    assert seen == {output for output in errors if name != "frames shifted by one" or output.startswith("frame")}


def test_a_program_that_answers_where_it_should_not_is_refused(bundle, monkeypatch):
    with pytest.raises(SystemExit, match="gives numbers for a window with a sample that is not finite"):
        verified_with(monkeypatch, bundle[0], lambda run, eeg, present: run(np.nan_to_num(eeg), present))


def test_rare_events_count_in_log_odds():
    """A program that returns 0 where 0.0005 is right, as in golden inputs without discharges, is found."""
    rare = np.array([0.0005, 1e-5, 0.9995])
    assert np.abs(run_bundle.log_odds(rare) - run_bundle.log_odds(np.array([0.0, 0.0, 1.0]))).min() > 5 * room.TOLERANCE
    between = np.linspace(0.05, 0.95, 9)
    np.testing.assert_allclose(run_bundle.log_odds(between), special.logit(between), atol=0.06)


def test_golden_outputs_that_do_not_vary_are_refused(checkpoint, tmp_path):
    params = dict(checkpoint.variables["params"])
    params["head_ied"] = jax.tree.map(jnp.zeros_like, params["head_ied"])  # a head that died
    dead = checkpoint._replace(variables=checkpoint.variables | {"params": params})
    with pytest.raises(ValueError, match=r"golden outputs frame/ied do not vary \(log-odds by 0.0e\+00\)"):
        room.export(dead, tmp_path / "out")
    assert left(tmp_path) == []


# --- the bundle ---


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
    of_windows = dict.fromkeys(("false_per_hour", "false_per_hour_limit", "hours"))
    assert said["operating_points"] == [POINT | of_windows] and said["step"] == 12
    program = (out / "model.stablehlo").read_bytes()
    assert said["programs"]["model.stablehlo"]["sha256"] == hashlib.sha256(program).hexdigest()


def test_the_card_says_what_it_is_and_its_code_runs(bundle):
    out, _, exported = bundle
    card = (out / "README.md").read_text()
    for words in (
        "Research use only",
        "Trained on: SIMULATED / (b)test. **Simulated signals",
        "| ied, auroc | 0.876 | not defined | 8 |",
        "8 patients, 99 windows, of x",
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
    with pytest.raises(ValueError, match="not finite: it is not exported"):
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
        "README.md config.json golden.safetensors identity.json interface.json model.stablehlo operating_points.json"
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
    with pytest.raises(ValueError, match=r"ONNX needs a JAX before 0.12, here is .*: pip install 'jax<0.12'"):
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
def test_onnx_is_verified_like_the_other(bundle):
    out, _, exported = bundle
    assert set(exported.errors) == {"model.stablehlo", "model.onnx"} and exported.files["model.onnx"] > 50_000
    assert all(error < 1e-3 for error in exported.errors["model.onnx"].values())
    import_module("onnx").checker.check_model(str(out / "model.onnx"))


@needs_onnx
def test_the_converter_prints_nothing_and_leaves_jax_as_it_was(checkpoint, capfd):
    config = onnx.onnx_config(checkpoint.config)
    eeg, present = inputs_of(config, 2)
    before = expected(checkpoint, eeg, present)
    onnx.to_onnx(room.serving(config, checkpoint), config, sorted(before))
    said = capfd.readouterr()
    assert said.out == "" and "onnx" not in said.err.lower()
    for name, values in expected(checkpoint, eeg, present).items():
        np.testing.assert_array_equal(values, before[name])
