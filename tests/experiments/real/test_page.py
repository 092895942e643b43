"""The page: every figure in its column, what is undefined and what is not there; and the command that writes it."""

import json

import pytest

from experiments.real.__main__ import main
from experiments.real.figures import FIGURES, Figure
from experiments.real.page import ROWS, page
from siamese_jax.files import finite
from tests.experiments.real.made_up import write_grond, write_healthy

NAN = float("nan")


def test_every_figure_has_a_row():
    assert list(ROWS) == list(FIGURES)


def test_figures_stand_in_their_column_and_what_is_not_defined_is_a_dash():
    plain = {"grond_timing": Figure(0.9156, 0.87, 0.95, 21, "21 segments")}
    learnt = {
        "grond_timing": Figure(NAN, NAN, NAN, 0, "0 segments"),
        "snippets_found": Figure(2.0, NAN, NAN, 1, "3 spikes"),
        "eegmat_per_hour": Figure(0.0, 0.0, 3.7, 24, "59 min"),
    }
    figures = {
        name: {key: figure._asdict() for key, figure in own.items()}
        for name, own in (("amplitude", plain), ("ours", learnt))
    }
    tree = {"what": "W", "figures": figures, "scorers": {"ours": "made up"}, "missing": ["iiic: is not there"]}
    tree |= {"left_out": ["Subject01"], "command": "C", "commit": "abc", "date": "D", "cpu_seconds": 1}
    text = page(finite(tree))
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in text.splitlines() if line.startswith("| ")}
    assert rows["| figure"] == ["rests on", "amplitude", "ours", "SpikeNet", "wanted |"]
    timing, snippets, eegmat = (
        rows[f"| {ROWS[k].words}"] for k in ("grond_timing", "snippets_found", "eegmat_per_hour")
    )
    assert timing == ["21 segments", "0.916 [0.870, 0.950]", "-", "0.848", "> .95 |"]
    assert snippets == ["3 spikes", "-", "2", "-", "all |"]
    assert eegmat == ["59 min", "-", "0.0 [0.0, 3.7]", "17.2", "<= 1 |"]
    assert len(rows) == 4  # a figure of a set that is not there has no row
    assert "- iiic: is not there" in text and "left out: Subject01" in text and "- `ours`: made up" in text


def test_the_command_writes_the_page_of_what_is_there(tmp_path):
    for i, kind in enumerate(("gpd", "gpd", "lrda", "lrda")):
        write_grond(tmp_path / "data", f"{kind}_{i}", kind, discharges=(6, 7) if kind == "gpd" else (), marked=True)
    write_healthy(tmp_path / "data/eegmat/Subject01_1.edf", 4)
    assert main(tmp_path / "data", out=tmp_path / "out") == 0
    text = (tmp_path / "out/real.md").read_text()
    assert "| 2 / 2 segments | 1.000 [1.000, 1.000] |" in text and "vecams: there is no discharges/vecams" in text
    assert "amplitude" in json.loads((tmp_path / "out/real.json").read_text())["figures"]
    with pytest.raises(ValueError, match="holds no set"):
        main(tmp_path, out=tmp_path / "out")
