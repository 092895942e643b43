"""One process at a time in a folder, also where the file system has no locks."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from siamese_jax.locks import locked

fcntl = pytest.importorskip("fcntl")  # Windows has locks of another kind
LOCK = "import sys; from pathlib import Path; from siamese_jax.locks import locked\nwith locked(Path(sys.argv[1])): {}"


def lock_elsewhere(folder: Path, work: str = "pass") -> subprocess.CompletedProcess:
    """What another process says that wants to work there."""
    command = [sys.executable, "-c", LOCK.format(work), folder]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)


def test_a_second_process_is_refused_until_the_first_one_is_done(tmp_path):
    folder = tmp_path / "new" / "out"
    with locked(folder) as note:
        assert note is None
        with pytest.raises(ValueError, match="out: another process is writing there"), locked(folder):
            pass
        assert f"ValueError: {folder}: another process is writing there" in lock_elsewhere(folder).stderr
    assert lock_elsewhere(folder).returncode == 0


def test_a_process_that_is_killed_leaves_no_lock(tmp_path):
    assert lock_elsewhere(tmp_path, "import os; os._exit(9)").returncode == 9
    with locked(tmp_path) as note:
        assert note is None


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_work_is_done_and_a_note_says_what_to_mind(tmp_path, monkeypatch, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path) as note:
        assert (
            note == f"{tmp_path} is on a file system without locks: do not run a second command in it at the same time"
        )


def test_other_faults_keep_their_words(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file, not a folder"), locked(tmp_path / "file"):
        pass
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path):
        pass
