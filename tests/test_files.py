"""A checkpoint or bundle from an unknown source is refused in one sentence that names a file. No code of it runs."""

import ast
import io
import json
import os
import pickle
import resource
import shutil
import struct
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from siamese_jax import checkpoints, files
from siamese_jax.cli import console
from siamese_jax.cli import deployment as cli
from siamese_jax.pipeline import initialise
from siamese_jax.tensors import named, read_tensors, write_tensors
from siamese_jax.vocabulary import IED, SLEEP
from tests.identities import learnt_from, thresholds_of

TASKS = (IED, SLEEP)
FIGURES = dict.fromkeys(("sensitivity", "precision", "specificity", "f1", "prevalence"), 0.5)
POINT = {"task": "ied", "criterion": "max_f1", "threshold": 0.5, **FIGURES, "n_windows": 1}
JSON = ["config.json", "identity.json", "operating_points.json"]
DEEP = b"[" * 100_000 + b"]" * 100_000
MAX_SECONDS, MAX_MB = 20, 300


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A checkpoint of an untrained network; each test takes a copy."""
    from tests.conftest import tiny

    folder, config = tmp_path_factory.mktemp("honest") / "checkpoint", tiny.__wrapped__()
    variables = initialise(config, TASKS, jax.random.key(0))
    points = thresholds_of([POINT])
    checkpoints.write(folder, checkpoints.Checkpoint(config, TASKS, variables, 7, learnt_from("test"), points))
    return folder


@pytest.fixture
def copy(honest, tmp_path):
    def make():
        return Path(shutil.copytree(honest, tmp_path / "checkpoint"))

    return make


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def refused(folder, capfd, *, naming, matching=""):
    """`siamese-jax export` of the folder ends with exit code 3 and one sentence; soon, and in little memory."""
    began, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SystemExit) as caught:
        console.run(lambda: cli.export(folder, folder.parent / "out"))
    said = capfd.readouterr().err.splitlines()
    said = [line for line in said if not line.startswith("WARNING:absl")]
    assert caught.value.code == console.NOT_ANALYSED
    assert len(said) == 1 and said[0].startswith("error: ") and said[0].isprintable(), said
    assert str(folder / naming) in said[0] and matching in said[0] and len(said[0]) < 2000, said[0]
    assert not (folder.parent / "out").exists() and not list(folder.parent.glob(".out*"))
    assert time.monotonic() - began < MAX_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024 < MAX_MB


def edit(folder, where, value):
    """Set `a.b.c` in config.json; a JSON text where Python has no such number."""
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    place, (*keys, last) = tree, where.split(".")
    for key in keys:
        place = place[int(key) if key.isdigit() else key]
    place[int(last) if last.isdigit() else last] = "@@" if isinstance(value, bytes) else value
    text = json.dumps(tree)
    path.write_bytes(text.encode().replace(b'"@@"', value) if isinstance(value, bytes) else text.encode())


# --- config.json ---


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("config.model.width", 1e9, "model.width must be in (0, 64], given"),
        ("config.model.width", 64.0, "parameters do not fit"),
        ("config.model.dilations", [1, 1, 1 << 40], "model.dilations must be in [1, 4096], given"),
        ("config.model.dilations", [1] * 100_000, "model.dilations must be 3 to 64 stages"),
        ("config.model.dropout", b"NaN", "config.model.dropout must be a finite number, given nan"),
        ("config.training.learning_rate", b"1e999", "must be a finite number, given inf"),
        ("config.training.learning_rate", b"-Infinity", "must be a finite number, given -inf"),
        ("config.training.learning_rate", 10**400, "must be a finite number"),
        ("config.training.steps", 10**30, "must be a whole number of 64 bits"),
        ("config.training.steps", b"1" * 5000, "is not JSON"),
        ("config.training.steps", True, "must be int, given True"),
        ("config.data.sfreq", 1e300, "config.data.sfreq must be 0 or a number from 1e-30"),
        ("config.data.window_seconds", 1e12, "data.window_seconds must be in (0, 3600]"),
        ("config.data.window_seconds", 3600.0, "parameters do not fit"),
        (
            "config.data.ch_names",
            [f"E{i}" for i in range(50_000)],
            "data.ch_names must be 1 to 1024 names, given 50000",
        ),
        ("config.data.ch_names", ["\x1b[2J", "b", "c", "d", "e"], "must be printable"),
        ("config.data.ch_names", ["a" * 1000, "b", "c", "d", "e"], "200 characters at most"),
        ("config.converter.n_fft", [1 << 40], "converter.n_fft must be in [2, 4096], given"),
        ("config.converter.n_fft", [16] * 100_000, "converter.n_fft must be 1 to 8 even lengths, given 100000"),
        ("config.converter.hop", 1 << 62, "converter.hop must be in [1, 1e9], given"),
        ("config.preprocess.mains_hz", 1e-9, "preprocess.mains_hz must be in [10, 1e6], given"),
        ("config.preprocess.filter_half_seconds", 1e9, "preprocess.filter_half_seconds must be in (0, 3600], given"),
        ("config.preprocess.sfreq", 1e-300, "config.json"),
        ("config.tasks", ["ied"] * 100_000, "tasks must be distinct"),
        ("config.tasks", ["ied", "sleep", "seizure"], "no definition of ['seizure']"),
        ("config.__class__", 1, "unknown keys ['__class__']"),
        ("config.model", None, "config.model must be an object"),
        ("config.data.ch_names", {"a": 1}, "must be a list"),
        ("tasks.0.name", 3, "tasks[0].name must be str"),
        ("tasks.0.name", "../../x", "no definition of ['ied']"),
        ("tasks.0.kind", ["binary"], "tasks[0].kind must be one of"),
        ("tasks.0.classes", ["a", "b", "c"], "a binary task has 2 classes"),
        ("tasks.1.classes", [f"c{i}" for i in range(50_000)], "at most 1000 classes, given 50000"),
        ("tasks.1.classes", [f"c{i}" for i in range(999)], "do not fit"),
        (
            "config.data.ch_names",
            ["a", "b", "c", "d", "e"],
            "no known electrode, so no row of preprocess.montage='average' can use it",
        ),
        ("config.data.ch_names", ["x" * 200] * 1000, "are one electrode"),
        ("tasks.0", {"name": "ied"}, "tasks[0] lacks ['kind', 'classes']"),
        ("tasks", 3, "tasks must be a list"),
        ("format", "1", "another format"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(copy, capfd, where, value, said):
    folder = copy()
    if where == "config.data.window_seconds" and value == 3600.0:
        edit(folder, "config.data.sfreq", 9e5)
        said = "a window with its margins would hold"
    edit(folder, where, value)
    refused(folder, capfd, naming="" if "fit" in said else "config.json", matching=said)


@pytest.mark.parametrize(
    "content",
    [DEEP, b'{"format":' + DEEP + b"}", b"\x80\x04.", b"\xff\xfe{\0}", b""],
    ids=["deep", "deep value", "pickle", "UTF-16", "empty"],
)
@pytest.mark.parametrize("name", JSON)
def test_bytes_that_are_no_json_are_refused(copy, capfd, name, content):
    folder = copy()
    (folder / name).write_bytes(content)
    refused(folder, capfd, naming=name)


@pytest.mark.parametrize("name", JSON)
def test_text_larger_than_any_is_refused(copy, capfd, name):
    """Sound JSON, and spaces after it."""
    folder = copy()
    limit = files.MAX_TEXT_BYTES if name == "config.json" else checkpoints.MAX_IDENTITY_BYTES
    with (folder / name).open("ab") as file:
        file.write(b" " * limit)
    refused(folder, capfd, naming=name, matching="is larger than")


@pytest.mark.parametrize("name", [*JSON, "parameters.safetensors"])
@pytest.mark.parametrize("what", ["link out", "pipe", "folder", "loop", "device"])
def test_what_is_no_file_of_the_folder_is_neither_followed_nor_waited_for(copy, capfd, tmp_path, name, what):
    folder = copy()
    path = folder / name
    path.rename(tmp_path / "elsewhere")
    makers = {
        "link out": lambda: path.symlink_to(tmp_path / "elsewhere"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "device": lambda: path.symlink_to("/dev/zero"),
    }
    makers[what]()
    refused(folder, capfd, naming=name)


def test_a_link_within_the_folder_and_one_to_the_folder_are_followed(copy, tmp_path):
    folder = copy()
    (folder / "config.json").rename(folder / "other.json")
    (folder / "config.json").symlink_to("other.json")
    (tmp_path / "link").symlink_to(folder)
    assert checkpoints.load(tmp_path / "link").step == 7


@pytest.mark.parametrize(
    "points",
    [
        {"a": 1},
        [1],
        [[]],
        [{"task": "ied"}],
        {"threshold": 10**400},
        {"threshold": 1.5},
        {"threshold": True},
        {"threshold": "0.5"},
        {"n_windows": 0.5},
        {"extra": 1},
    ],
    ids=str,
)
def test_operating_points_that_cannot_be_are_refused(copy, capfd, points):
    folder = copy()
    path = folder / "operating_points.json"
    sound = json.loads(path.read_text())
    assert sound["points"] == [POINT | dict.fromkeys(("false_per_hour", "false_per_hour_limit", "hours"))]
    hostile = [POINT | points] if isinstance(points, dict) and "a" not in points else points
    path.write_text(json.dumps(sound | {"points": hostile}))
    refused(folder, capfd, naming="operating_points.json")


@pytest.mark.parametrize("name", ["identity.json", "operating_points.json"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"salt": 3}, "salt must be str"),
        ({"patients": "P1"}, "patients must be a list"),
        ({"patients": [["P1"]]}, "patients[0] must be str"),
        ({"names": []}, "unknown keys ['names']"),
        ({"sources": ["x" * 1000]}, "200 characters at most"),
        ({"sources": ["good\x1b]0;title\x07 data\r\n\u202e"]}, "must be printable"),
    ],
    ids=str,
)
def test_what_no_checkpoint_learnt_from_is_refused(copy, capfd, name, value, said):
    folder = copy()
    tree = json.loads((folder / name).read_text())
    origin = tree["runs"][0]["training"] if name == "identity.json" else tree["fixed_on"]
    origin.update(value)
    (folder / name).write_text(json.dumps(tree))
    refused(folder, capfd, naming=name, matching=said)


def test_an_identity_of_many_patients_is_read(copy):
    folder, hashes = copy(), tuple(f"{n:064x}" for n in range(10_000))
    tree = json.loads((folder / "identity.json").read_text())
    tree["runs"][0]["training"] |= {"patients": hashes, "recordings": hashes}
    files.write_json(folder / "identity.json", tree)
    assert checkpoints.load(folder).identity.origins[0].recordings == hashes


# --- parameters.safetensors ---


def header(entries, body=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"x" * 1000,
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", len(DEEP)) + DEEP,
        header({"params/head_ied/bias": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        header({"params/head_ied/bias": {"dtype": "F32", "shape": [1 << 40, 0], "data_offsets": [0, 0]}}),
        header({"params/head_ied/bias": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"0000"),
        header({"../../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"0000"),
        header({"\x1b[2J": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"0000"),
        header({"params/head_ied/bias": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}, b"0" * 8),
    ],
    ids=range(11),
)
def test_bytes_that_are_no_parameters_are_refused(copy, capfd, content):
    folder = copy()
    (folder / "parameters.safetensors").write_bytes(content)
    refused(folder, capfd, naming="parameters.safetensors")


def test_pickles_are_not_opened(copy, capfd, tmp_path):
    folder = copy()
    mark = tmp_path / "mark"
    for content in (pickle.dumps(Trap(mark)), npz(x=np.array([Trap(mark)], object))):
        for name in ("parameters.safetensors", *JSON):
            honest = (folder / name).read_bytes()
            (folder / name).write_bytes(content)
            refused(folder, capfd, naming=name)
            (folder / name).write_bytes(honest)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the pickle would have run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update({"params/head_ied/bias": a["params/head_ied/bias"].astype("float64")}), "'float64' saved"),
        (lambda a: a.update({"params/head_ied/bias": np.ones(1, bool)}), "'bool' saved"),
        (lambda a: a.update({"params/head_ied/bias": np.ones((1, 1), "float32")}), "(1, 1) saved, (1,) configured"),
        (lambda a: a.update({"params/head_x/bias": np.ones(1, "float32")}), "(1,) saved, absent configured"),
        (lambda a: a.pop("params/head_ied/bias"), "absent saved, (1,) configured"),
        (lambda a: a.update({"params/head_ied/bias": np.full(1, np.nan, "float32")}), "not finite"),
        (lambda a: a.update({"params/head_ied/bias": np.full(1, np.inf, "float32")}), "not finite"),
        (lambda a: a.update(large=np.zeros(1 << 20, "float32")), "where the configured parameters need"),
    ],
    ids=range(8),
)
def test_parameters_that_do_not_fit_are_refused(copy, capfd, change, said):
    folder = copy()
    arrays = {name: np.asarray(x) for name, x in named(checkpoints.load(folder).variables).items()}
    change(arrays)
    write_tensors(folder / "parameters.safetensors", arrays, notes={"step": "7"})
    refused(folder, capfd, naming="", matching=said)


@pytest.mark.parametrize("step", [None, "", "-1", "9" * 50, "7; x", "\u0667"])
def test_a_step_that_is_no_number_is_refused(copy, capfd, step):
    folder = copy()
    notes = {} if step is None else {"step": step}
    write_tensors(folder / "parameters.safetensors", named(checkpoints.load(folder).variables), notes=notes)
    refused(folder, capfd, naming="parameters.safetensors", matching="`step` must be a number")


def test_a_file_said_to_be_a_terabyte_is_not_read(copy, capfd):
    folder = copy()
    with (folder / "parameters.safetensors").open("ab") as file:
        os.truncate(file.fileno(), 1 << 40)  # sparse: it takes no space
    refused(folder, capfd, naming="parameters.safetensors", matching="1099511627776 bytes")


def test_tensors_come_back_bit_for_bit_with_their_notes(tmp_path):
    rng = np.random.default_rng(0)
    tree = {"b": {"c": rng.normal(size=(3, 4)).astype(np.float32).T}, "a": np.array([True, False])}
    write_tensors(tmp_path / "x.safetensors", named(tree), notes={"step": "3"})
    back, notes = read_tensors(tmp_path / "x.safetensors", tree)
    np.testing.assert_array_equal(back["b"]["c"], tree["b"]["c"])
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert notes == {"step": "3"} and back["b"].keys() == {"c"}


# --- writing ---


def test_a_folder_gets_its_name_once_it_is_whole(tmp_path):
    out = tmp_path / "new" / "out"
    with files.replacing_folder(out) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("x")
        assert not out.exists() and folder.parent == out.parent and folder.name.endswith(files.PARTIAL)
    assert (out / "inner" / "a").read_text() == "x"
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_that_fails_leaves_nothing_and_what_stood_there_stays(tmp_path):
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), files.replacing_folder(tmp_path / "out") as folder:
            (folder / "a").touch()
            raise error
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OSError), files.replacing_folder(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "out"]
    (tmp_path / "out" / "mine").unlink()
    with files.replacing_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "out"]


# --- the rule behind it ---


def test_nothing_in_the_package_unpickles_or_evaluates():
    """What can turn bytes into code is not there at all; StableHLO is read by the script that is shipped, alone."""
    modules = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch", "msgpack", "yaml", "runpy"}
    calls = {"eval", "exec", "compile", "__import__", "np.load", "numpy.load", "export.deserialize"}
    for path in (Path(__file__).parents[1] / "siamese_jax").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imported = {alias.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        imported |= {n.module.split(".")[0] for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
        called = {ast.unparse(n.func) for n in nodes if isinstance(n, ast.Call)}
        assert not imported & modules, path
        assert called & calls == ({"export.deserialize"} if path.name == "run_bundle.py" else set()), path


def test_a_file_s_name_is_on_the_disk_when_the_writing_is_done(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    with files.replacing(tmp_path / "a.json") as file:
        file.write(b"{}")
    assert flushed == [(tmp_path / "a.json").stat().st_ino, tmp_path.stat().st_ino]
