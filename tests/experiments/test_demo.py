"""`make demo` at a hundredth of its size: everything lands where the README says."""

import json

import matplotlib.image
import numpy as np
import pytest

from experiments import demo
from siamese_jax.cli import console


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "demo"
    assert demo.main(out, devices=2, patients=5, minutes=1.0, steps=4) == console.OK
    return out


def test_everything_lands_in_one_folder(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("recordings", "shards", "checkpoint", "detection", "detection-of-the-package"),
        *("metrics.json", "training.jsonl", "demo.png", ".lock"),
    }
    assert len(list((finished / "recordings").glob("*.edf"))) == 5
    assert len(list((finished / "shards").glob("*/*.h5"))) == 5
    assert json.loads((finished / "metrics.json").read_text())["ied"]
    assert len(list((finished / "detection").glob("*_detected.edf"))) == 1


def test_detection_was_in_a_test_patient(finished):
    used = json.loads((finished / "shards" / "prepare.json").read_text())["used"]
    (events,) = (finished / "detection").glob("*_events.csv")
    split = {file["name"]: file["split"] for file in used}
    assert split[events.name.replace("_events.csv", ".edf")] == "test"


def test_the_picture_is_a_picture(finished):
    pixels = matplotlib.image.imread(finished / "demo.png")
    assert pixels.shape[0] > 800 and pixels.shape[1] > 1000
    # Something is drawn in each third of its height.
    assert all(np.ptp(third) > 0.5 for third in np.array_split(pixels[..., :3], 3))


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(ValueError, match=r"holds thesis.docx, which no demo made"):
        demo.main(tmp_path, patients=5, steps=4)
    assert (tmp_path / "thesis.docx").exists()


def test_the_model_of_the_package_looks_at_the_users_recording_first(tmp_path, finished, monkeypatch):
    seen = []
    monkeypatch.setattr(demo.cli, "detect", lambda files, **options: seen.append((files, options)) or 7)
    mine = finished / "recordings" / "SIM0002.edf"
    with pytest.raises(SystemExit) as stopped:
        demo.main(tmp_path / "demo", recording=mine, patients=5, steps=4)
    assert stopped.value.code == 7  # of `detect`: nothing else was done
    assert seen == [((mine,), {"out": tmp_path / "demo" / "detection-of-the-package"})]
