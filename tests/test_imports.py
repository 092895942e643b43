"""Rules of the source: which module imports which, which imports a library, where each flag is read."""

import ast
import fnmatch
import operator
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for top in ("siamese_jax", "data_tools", "experiments") for p in (ROOT / top).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}

LAYERS = (
    {"vocabulary", "files", "locks", "weights"},
    {"tensors", "jobs"},
    {"recordings", "config"},
    {"shards", "evaluation", "models", "signals"},
    {"cohort", "pipeline", "identity", "review"},
    {"checkpoints"},
    {"detection"},
    {"training", "export"},
    {"api"},
    {"cli", "data_tools", "experiments", "siamese_jax"},
)
"""A part may import itself and the layers below its own; `siamese_jax` is the package's `__init__`."""

HOST_PARTS = {"recordings", "shards", "cohort", "evaluation", "identity", "review", "data_tools"}
"""Never JAX: of ours they may import each other (downwards) and these."""
WITHOUT_JAX = HOST_PARTS | {"config", "files", "jobs", "locks", "vocabulary", "weights"}

OWNERS = {
    "edfio": ["siamese_jax/recordings/edf*.py"],
    "h5py": ["siamese_jax/shards/*.py"],
    "flax": ["siamese_jax/models/*.py"],
    "orbax": ["siamese_jax/checkpoints.py"],
    "optax": ["siamese_jax/training/*.py"],
    "tensorboardX": ["siamese_jax/training/log.py"],
    "jax.export": ["siamese_jax/export/bundle.py", "siamese_jax/export/run_bundle.py"],
    "safetensors": ["siamese_jax/tensors.py", "siamese_jax/export/run_bundle.py"],
    "jax2onnx": ["siamese_jax/export/onnx.py"],
    "onnxruntime": ["siamese_jax/export/run_bundle.py"],
    "tyro": ["siamese_jax/cli/*.py", "experiments/*.py", "data_tools/*.py"],
    "dask": ["siamese_jax/jobs.py"],
    "distributed": ["siamese_jax/jobs.py"],
    "filelock": ["siamese_jax/locks.py"],
    "pyedflib": [],  # another implementation, for tests alone
    "wfdb": [],  # likewise
    "mne": [
        "siamese_jax/recordings/through_mne.py",
        "siamese_jax/detection/found.py",
        "siamese_jax/api.py",
        "experiments/pieces.py",
    ],
    "pandas": ["siamese_jax/detection/found.py"],
    "torch": ["experiments/parity/theirs.py"],
    "torchvision": ["experiments/parity/theirs.py"],
    "timm": ["experiments/parity/theirs.py"],
}

FLAGS = {
    "model.fusion": "siamese_jax/models/siamese_es.py",
    "model.stop_sleep_gradient": "siamese_jax/models/siamese_es.py",
    "model.shared_stages": "siamese_jax/models/siamese_es.py",
    "model.pooling": "siamese_jax/models/siamese_es.py",
    "model.dtype": "siamese_jax/models/siamese_es.py",
    "model.remat": "siamese_jax/models/siamese_es.py",
    "freeze": "siamese_jax/models/siamese_es.py",
    "model.name": "siamese_jax/models/build.py",
    "converter.kind": "siamese_jax/signals/converter.py",
    "converter.implementation": "siamese_jax/signals/converter.py",
    "preprocess.implementation": "siamese_jax/signals/preprocess.py",
    "preprocess.montage": "siamese_jax/signals/preprocess.py",
    "preprocess.scaling": "siamese_jax/signals/preprocess.py",
    "preprocess.mains_hz": "siamese_jax/signals/preprocess.py",
    "preprocess.eeg_scale_uv": "siamese_jax/signals/preprocess.py",
    "preprocess.other_scale_uv": "siamese_jax/signals/preprocess.py",
    "training.balance": "siamese_jax/training/losses.py",
    "training.task_weights": "siamese_jax/training/losses.py",
    "training.parallel": "siamese_jax/training/parallel.py",
    "training.negatives_per_positive": "siamese_jax/shards/batches.py",
    "training.row_shuffle": "siamese_jax/signals/augment.py",
}
"""The design's ablation table: each flag and the one file that reads it."""

DEFINING = {"siamese_jax/config/experiment.py", "siamese_jax/config/sections.py"}
"""Where flags are defined and checked."""

TESTED_WITH: dict[str, str] = {
    "data_tools/cohort_folder.py": "tests/data_tools/test_simulate.py",
    "data_tools/simulator/physiology.py": "tests/data_tools/simulator/test_background.py",
    "data_tools/vepiset_files.py": "tests/data_tools/test_vepiset.py",
    "experiments/ecg/page.py": "tests/experiments/ecg/test_score.py",
    "experiments/parity/theirs.py": "tests/experiments/parity/test_names.py",
    "experiments/picture.py": "tests/experiments/test_demo.py",
    "experiments/figures.py": "tests/experiments/sweep/test_curves.py",
    "experiments/pages.py": "tests/experiments/sweep/test_page.py",
    "experiments/sweep/command.py": "tests/experiments/test_compare.py",
    "experiments/sweep/predictions.py": "tests/experiments/sweep/test_jobs.py",
    "experiments/training.py": "tests/experiments/sweep/test_jobs.py",
    "experiments/simulator/figures.py": "tests/experiments/simulator/test_page.py",
    "siamese_jax/cli/deployment.py": "tests/cli/test_main.py",
    "siamese_jax/cli/recordings.py": "tests/cli/test_main.py",
    "siamese_jax/cli/evaluation.py": "tests/cli/test_main.py",
    "siamese_jax/export/model_card.py": "tests/export/test_bundle.py",
    "siamese_jax/export/onnx.py": "tests/export/test_bundle.py",
    "siamese_jax/export/run_bundle.py": "tests/export/test_bundle.py",
    "siamese_jax/pipeline.py": "tests/detection/test_predict.py",
    "siamese_jax/models/blocks.py": "tests/models/test_siamese_es.py",
    "siamese_jax/models/build.py": "tests/models/test_siamese_es.py",
    "siamese_jax/models/efficientnet.py": "tests/models/test_siamese_es.py",
    "siamese_jax/models/inputs.py": "tests/training/test_transfer.py",
    "siamese_jax/config/montages.py": "tests/signals/test_montage.py",
    "siamese_jax/config/presets.py": "tests/config/test_experiment.py",
    "siamese_jax/cohort/splits.py": "tests/cohort/test_prepare.py",
    "siamese_jax/recordings/recording.py": "tests/recordings/test_edf.py",
    "siamese_jax/recordings/read.py": "tests/recordings/test_through_mne.py",
    "siamese_jax/detection/evaluation.py": "tests/cli/test_main.py",
    "siamese_jax/detection/found.py": "tests/test_api.py",
    "siamese_jax/recordings/resample.py": "tests/recordings/test_edf.py",
    "siamese_jax/cohort/report.py": "tests/cohort/test_prepare.py",
    "siamese_jax/shards/write.py": "tests/shards/test_schema.py",
    "siamese_jax/config/sections.py": "tests/config/test_experiment.py",
    "siamese_jax/tensors.py": "tests/test_files.py",
    "siamese_jax/config/typed.py": "tests/config/test_experiment.py",
}
"""Modules without tests of their own, and the test file of the only module that uses them."""

COMMON_WORDS = {"name", "kind", "implementation", "parallel", "dtype", "balance", "task_weights"}
"""Flags whose name other things bear too: counted only as `<...>.section.flag`."""


def part_of(path):
    """`models` for siamese_jax/models/build.py, `cli` for siamese_jax/cli/main.py, `data_tools` for all of it."""
    parts = Path(path).with_suffix("").parts
    if parts[0] != "siamese_jax":
        return parts[0]
    return "siamese_jax" if parts[1] == "__init__" else parts[1]


def imported(tree):
    """Every dotted name that a file imports, wherever in it; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def our_parts(tree):
    for name in imported(tree):
        parts = name.split(".")
        if parts[0] == "siamese_jax":
            yield parts[1]
        elif parts[0] in ("data_tools", "experiments"):
            yield parts[0]


def layer_of(part):
    return next(i for i, parts in enumerate(LAYERS) if part in parts)


@pytest.mark.parametrize("path", TREES)
def test_imports_point_down(path):
    part = part_of(path)
    wrong = {other for other in our_parts(TREES[path]) if other != part and layer_of(other) >= layer_of(part)}
    # The drivers share the top layer: experiments run the command line and the simulator, readers print as it does.
    wrong -= {"experiments": {"cli", "data_tools"}, "data_tools": {"cli"}}.get(part, set())
    assert not wrong, f"{path} ({part}) may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", [path for path in TREES if part_of(path) in WITHOUT_JAX])
def test_host_parts_import_host_parts_only(path):
    third = {name.split(".")[0] for name in imported(TREES[path])}
    assert not third & {"jax", "flax", "optax", "orbax", "chex"}
    assert set(our_parts(TREES[path])) <= WITHOUT_JAX | ({"cli"} if part_of(path) == "data_tools" else set())
    if part_of(path) in WITHOUT_JAX - HOST_PARTS:
        assert third <= set(sys.stdlib_module_names) | {"siamese_jax"} | (
            {"jobs": {"dask", "distributed"}, "locks": {"filelock"}}.get(part_of(path), set())
        )
    if part_of(path) == "evaluation":
        assert third <= set(sys.stdlib_module_names) | {"siamese_jax", "numpy", "jaxtyping", "scipy"}


def test_host_parts_never_load_jax():
    names = [path.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for path in TREES]
    hosts = [name for name, path in zip(names, TREES, strict=True) if part_of(path) in WITHOUT_JAX | {"siamese_jax"}]
    program = (
        f"import importlib, sys\nfor name in {hosts}: importlib.import_module(name)\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'jaxlib', 'flax', 'optax', 'orbax'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("library", OWNERS)
def test_each_third_party_library_has_one_owner(library):
    users = [
        path
        for path, tree in TREES.items()
        if any(name == library or name.startswith(f"{library}.") for name in imported(tree))
    ]
    others = [u for u in users if not any(fnmatch.fnmatch(u, owner) for owner in OWNERS[library])]
    assert not others, f"{library} belongs to {OWNERS[library]}"


@pytest.mark.parametrize("path", TREES)
def test_imports_are_absolute_and_no_module_is_named_utils(path):
    assert not [n for n in ast.walk(TREES[path]) if isinstance(n, ast.ImportFrom) and n.level]
    assert not {"utils", "util", "helpers", "common", "misc", "base"} & set(Path(path).with_suffix("").parts)


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_is_read_in_one_file(flag):
    package = {path: tree for path, tree in TREES.items() if path.startswith("siamese_jax/")}
    readers = {path for path, tree in package.items() if path not in DEFINING and reads(tree, flag)}
    assert readers == {FLAGS[flag]}


def reads(node, flag):
    """Whether the flag is read as an attribute; a message that quotes it does not count."""
    if isinstance(node, ast.JoinedStr):
        return False
    section, _, name = flag.rpartition(".")
    if isinstance(node, ast.Attribute) and node.attr == name:
        return name not in COMMON_WORDS or last_name(node.value) == section
    return any(reads(child, flag) for child in ast.iter_child_nodes(node))


def last_name(node):
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)


def test_every_flag_exists():
    from siamese_jax.config.experiment import Config

    for flag in FLAGS:
        operator.attrgetter(flag)(Config())


def test_public_names_are_no_modules():
    # `siamese_jax.pipeline` is a module once anything has imported it, and hides a function of that name.
    program = (
        "import siamese_jax, types\nfor name in siamese_jax.__all__ * 2:\n"
        "    if isinstance(getattr(siamese_jax, name), types.ModuleType): print(name)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_tests_mirror_the_package():
    def mirror(path):
        parts = Path(path).parts
        inner = parts[1:-1] if parts[0] == "siamese_jax" else parts[:-1]
        return Path("tests", *inner, f"test_{parts[-1]}").as_posix()

    modules = [path for path in TREES if not path.endswith(("__init__.py", "__main__.py"))]
    tests = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("test_*.py")}
    tests -= {"tests/test_imports.py", "tests/test_docs.py"}
    tests = {path for path in tests if not path.startswith("tests/seams/")}  # of several modules together
    assert tests - {mirror(path) for path in modules} == set(), "tests of no module"
    assert set(TESTED_WITH) <= set(modules)
    untested = [path for path in modules if mirror(path) not in tests and TESTED_WITH.get(path) not in tests]
    assert not untested, "modules without tests"


def test_the_wheel_holds_the_package_only_and_its_weights(tmp_path):
    if not (ROOT / "README.md").exists():
        pytest.skip("no README.md yet, which the wheel's metadata quotes")
    command = "-m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir".split()
    subprocess.run([sys.executable, *command, tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"siamese_jax"}
    assert {n for n in names if n.endswith(".py")} == {path for path in TREES if path.startswith("siamese_jax/")}
    weights = {p.relative_to(ROOT).as_posix() for p in (ROOT / "siamese_jax/weights").glob("*/*") if p.suffix != ".pyc"}
    assert weights == {name for name in names if name.startswith("siamese_jax/weights/") and name.count("/") == 3}
    page = {f"siamese_jax/review/page.{kind}" for kind in ("html", "css", "js")}
    assert page <= set(names) and wheel.stat().st_size < 3e6
    command = f"-m hatchling build --target sdist --directory {tmp_path}".split()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    (source,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(source) as held:
        assert weights <= {name.partition("/")[2] for name in held.getnames()}


def test_a_model_of_the_package_is_a_folder_of_known_files():
    for folder in (ROOT / "siamese_jax/weights").glob("*/config.json"):
        names = {path.name for path in folder.parent.iterdir()}
        stems = {"config.json", "identity.json", "parameters.safetensors", "operating_points.json", "card.md"}
        assert names == stems, folder.parent
