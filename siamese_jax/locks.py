"""One process at a time in a folder."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error codes where a file system has no locks: NFS without its lock service, some clusters' file systems."""


@contextmanager
def locked(folder: Path) -> Iterator[str | None]:
    """Keep other processes out of a folder, which is made if need be; the lock ends with the process, however it ends.

    Yields:
        None; or, where the file system has no locks, a note to the user that nothing keeps others out.

    Raises:
        ValueError: it is a file; another process is writing there: wait until it ends, or give another folder.
        OSError: it cannot be made, or nothing can be written in it.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock, note = FileLock(folder / ".lock", blocking=False, fallback_to_soft=False), None
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder}: another process is writing there; wait until it ends, or give another folder"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        note = f"{folder} is on a file system without locks: do not run a second command in it at the same time"
    try:
        yield note
    finally:
        lock.release()
