"""The archive experiment at a thirtieth of its size; and that it would notice."""

from pathlib import Path

import pytest

from experiments import archive
from experiments.archive import Row, Run
from siamese_jax.cli import console

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")


@needs_proc
def test_a_killed_worker_and_a_broken_file_leave_the_same_bytes(tmp_path):
    page = tmp_path / "page.md"
    assert archive.main(tmp_path / "out", files=6, minutes=0.5, results=page) == console.OK
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| prepare |")]
    assert "exit code 5 | yes |" in row and "0 written anew" in row and "all the same bytes" in row
    assert "skipped SIM0004.edf: is cut inside its header" in page.read_text()
    with pytest.raises(ValueError, match="is there already"):
        archive.main(tmp_path / "out")


def test_other_bytes_and_files_written_anew_are_told(tmp_path, monkeypatch):
    """A command that writes something else each time."""
    texts = iter(["one", "one and a broken run", "three"])

    def run(arguments, out, **options):
        out.mkdir(exist_ok=True)
        (out / "a.h5").write_text(next(texts))
        return Run(0.0, console.OK, None, "")

    monkeypatch.setattr(archive, "run", run)
    alone = run((), tmp_path / "prepare-alone")
    row = archive.examine("prepare", (), "*.h5", (tmp_path / "prepare-alone", alone), 3)
    assert (row.differing, row.n_rewritten) == (("a.h5",), 1)
    assert "1 written anew" in archive.line(row) and "1 files, 1 differ: a.h5" in archive.line(row)
    assert isinstance(row, Row)
