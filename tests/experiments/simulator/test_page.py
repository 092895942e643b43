"""The page on the simulator, from end to end at a small size: everything is measured, drawn and said."""

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from experiments.simulator import __main__ as simulator
from experiments.simulator import page
from experiments.simulator.data import SHARED_ELECTRODES
from siamese_jax.recordings.edf_write import write_recording
from tests.data_tools.excerpts import write_excerpt

FIGURES = {"spectra.png", "spindles.png", "fields.png", "stages.png", "apart.png"}
CODES = [5] * 12 + [3] * 12 + [2] * 36 + [1] * 12 + [5] * 12 + [2] * 12 + [1] * 12  # 9 min of 5-s steps


def excerpt(folder, subject, sfreq, channel):
    rng = np.random.default_rng(subject)
    samples = rng.normal(0, 20, 5 * len(CODES) * sfreq).cumsum() * 0.02 + rng.normal(0, 5, 5 * len(CODES) * sfreq)
    marks = [(150.0, 0.8), (200.0, 1.0), (250.0, 0.7)]
    write_excerpt(folder, subject, channel=channel, samples=samples, codes=CODES, spindles={1: marks})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulator")
    for subject, sfreq in {1: 100, 2: 200, 3: 50, 4: 200, 6: 200}.items():
        excerpt(out / "dreams", subject, sfreq, "CZ-A1" if sfreq == 200 else "C3-A1")
    eeg = np.random.default_rng(0).normal(0, 10, (128 * 60, len(SHARED_ELECTRODES)))
    write_recording(out / "eeglab.edf", eeg, sfreq=128.0, ch_names=SHARED_ELECTRODES, annotations=())
    size = {"patients": 4, "minutes": 6.0, "draws": 2, "subjects": (1, 3, 6)}
    code = simulator.main(out / "dreams", out / "eeglab.edf", out=out / "page", work=out / "work", **size)
    assert code == 0
    return out


@pytest.fixture(scope="module")
def tree(finished):
    return json.loads((finished / "page" / "simulator.json").read_text())


def test_everything_lands_in_one_folder_and_figures_are_pictures(finished):
    assert {path.name for path in (finished / "page").iterdir()} == FIGURES | {"simulator.json", "simulator.md"}
    for name in FIGURES:
        pixels = matplotlib.image.imread(finished / "page" / name)[..., :3]
        assert pixels.shape[0] > 200 and pixels.shape[1] > 800, name
        assert all(np.ptp(part) > 0.5 for part in np.array_split(pixels, 2, axis=1)), name


def test_it_says_what_is_simulated_what_is_real_and_how_it_was_made(finished, tree):
    assert "SIMULATED" in tree["what"] and "REAL" in tree["what"]
    assert tree["real"] == {
        "folder": "dreams",
        "subjects": ["DREAMS 1", "DREAMS 3", "DREAMS 6"],
        "eeglab": "eeglab.edf",
        "half": 2,
    }
    assert tree["simulated"]["command"].startswith("python -m data_tools.simulate OUT --patients 4 --minutes 6")
    assert tree["settings"] == {"seed": 0, "draws": 2} and tree["commit"] and tree["date"]
    assert tree["minutes"]["DREAMS 1"] == {"W": 2, "N1": 1, "N2": 4, "N3": 2, "R": 0}
    text = (finished / "page" / "simulator.md").read_text()
    for part in ("1. Spectra", "2. Spindles", "3. Events", "4. Electrodes", "5. Are", "6. What", "7. Throughput"):
        assert f"## {part}" in text
    assert tree["commit"] in text and tree["simulated"]["command"] in text
    assert not {" None ", "nan"} & set(text.replace("|", " | ").split())
    assert all(f"]({name})" in text for name in FIGURES)


def test_who_is_compared_with_what(tree):
    assert tree["spectra"]["real"]["DREAMS 1"]["ch_name"] == "C3-A1"
    assert "beta" not in tree["spectra"]["real"]["DREAMS 3"]["stages"]["N2"].get("difference_db", {})  # 50 Hz
    assert tree["apart"]["people"] == ["DREAMS 1", "DREAMS 6"] and tree["apart"]["recorder_people"] == ["DREAMS 6"]
    assert tree["stages"]["tested"] == [1, 6] and tree["stages"]["trained_on"] == [1, 2, 4, 6]
    assert tree["spindles"]["DREAMS 1, expert 1"]["n"] == 3
    assert sum(map(sum, tree["stages"]["real_confusion"])) == 2 * 18
    assert tree["cost"]["hours"] == pytest.approx(2 * 6 / 60, abs=1e-4) and tree["cost"]["cpu_seconds"] > 0


def test_events_are_all_in_the_table(finished, tree):
    (folder,) = [
        path for path in (finished / "work" / "jobs").iterdir() if len(list((path / "cohort").glob("*.edf"))) == 4
    ]
    rows = (folder / "cohort" / "events.csv").read_text().splitlines()[1:]
    assert sum(row["n"] for row in tree["events"].values()) == len(rows)
    assert all(f"| {kind} |" in (finished / "page" / "simulator.md").read_text() for kind in tree["events"])


def test_numbers_are_rounded():
    given = {"a": [1.23456789, 0.000123456], "b": (3, True, "x"), "c": np.inf}
    assert simulator._rounded(given) == {"a": [1.235, 0.0001235], "b": [3, True, "x"], "c": np.inf}


def test_the_published_page_is_what_its_figures_say():
    folder = Path(page.__file__).parents[1] / "results/simulator"
    assert (folder / "simulator.md").read_text() == page.page(json.loads((folder / "simulator.json").read_text()))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        simulator.main(tmp_path / "nowhere", tmp_path / "eeglab.edf")
