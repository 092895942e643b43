"""What a checkpoint learnt from, without a name: salted patients, digests of recordings, fingerprints of shards.

A patient's name is stored as SHA-256 of a random salt and the name, so two checkpoints do not show by themselves that
they share a patient. The salt stands beside it: whoever has a list of names can try them, which is what `known_to`
does with the names in shards. Standard library and NumPy only.
"""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from siamese_jax.config.typed import MAX_CHARACTERS
from siamese_jax.files import plain
from siamese_jax.shards.schema import Shard

QUOTED = 3
"""How many patients a message names."""


@dataclass(frozen=True)
class Origin:
    """Recordings that parameters or thresholds come from."""

    salt: str
    patients: tuple[str, ...] = ()
    """SHA-256 of salt and name, of each patient with a label that counts."""
    recordings: tuple[str, ...] = ()
    """SHA-256 of each of their recordings' files."""
    shards: tuple[str, ...] = ()
    """Fingerprints of the shards."""
    sources: tuple[str, ...] = ()
    """Where the recordings came from, in words."""


@dataclass(frozen=True)
class Training:
    """One training run."""

    version: str
    """Of siamese-jax."""
    date: str
    """When it began, UTC."""
    training: Origin
    """What was learnt from."""
    validation: Origin
    """What was evaluated along the way; nothing was learnt from it."""


@dataclass(frozen=True)
class Identity:
    """The training runs that led to a checkpoint: its own first, then the one it was fine-tuned from, and so on."""

    runs: tuple[Training, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What was learnt from."""
        return tuple(run.training for run in self.runs)

    @property
    def recordings(self) -> frozenset[str]:
        """SHA-256 of each recording's file that was learnt from."""
        return frozenset(digest for origin in self.origins for digest in origin.recordings)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the recordings that were learnt from came from, in words."""
        return tuple(sorted({source for origin in self.origins for source in origin.sources}))


class Known(NamedTuple):
    """Patients of some shards that an origin has too."""

    patients: tuple[str, ...]
    """Their names in the shards."""
    by_recording: tuple[str, ...]
    """Those of them that the origin has under another name: a recording of theirs is the same file."""
    n_patients: int
    """All patients of the shards with a label that counts."""

    def text(self) -> str:
        """How many of how many, with the first names."""
        named = ", ".join(self.patients[:QUOTED]) + (" ..." if len(self.patients) > QUOTED else "")
        aliases = ", ".join(self.by_recording[:QUOTED]) + (" ..." if len(self.by_recording) > QUOTED else "")
        other = f"; by their recordings, under other names: {aliases}" if self.by_recording else ""
        return f"{len(self.patients)} of {self.n_patients} patients ({named}{other})"


def now() -> tuple[str, str]:
    """The version of siamese-jax and the time, as they are written down."""
    return version("siamese-jax"), datetime.now(UTC).isoformat(timespec="seconds")


def new_training(training: Sequence[Shard], validation: Sequence[Shard], tasks: Sequence[str]) -> Training:
    """The identity of a run that begins now."""
    salt = secrets.token_hex(16)
    return Training(*now(), origin_of(training, tasks, salt=salt), origin_of(validation, tasks, salt=salt))


def origin_of(shards: Sequence[Shard], tasks: Sequence[str] | None = None, *, salt: str | None = None) -> Origin:
    """What of some shards has a label for one of `tasks`, or all of it; a random salt unless one is given."""
    salt = secrets.token_hex(16) if salt is None else salt
    patients, recordings = set(), set()
    for shard in shards:
        rows = _recordings(shard, tasks)
        patients |= set(shard.recordings["patient"][rows].tolist())
        recordings |= set(shard.recordings["digest"][rows].tolist())
    return Origin(
        salt=salt,
        patients=tuple(sorted(salted(salt, name) for name in patients)),
        recordings=tuple(sorted(recordings - {""})),
        shards=tuple(sorted({shard.info.fingerprint for shard in shards})),
        sources=tuple(sorted({plain(shard.info.source)[:MAX_CHARACTERS] for shard in shards})),
    )


def salted(salt: str, name: str) -> str:
    """SHA-256 of a salt and a patient's name."""
    return hashlib.sha256(f"{salt}\0{name}".encode()).hexdigest()


def known_to(origins: Iterable[Origin], shards: Sequence[Shard], tasks: Sequence[str] | None = None) -> Known:
    """Which patients of some shards, among those with a label for one of `tasks` or all, the origins have too."""
    origins = tuple(origins)
    recordings = {digest for origin in origins for digest in origin.recordings}
    everybody, by_recording = set(), set()
    for shard in shards:
        rows = _recordings(shard, tasks)
        names = shard.recordings["patient"][rows].tolist()
        everybody |= set(names)
        digests = shard.recordings["digest"][rows].tolist()
        by_recording |= {name for name, digest in zip(names, digests, strict=True) if digest in recordings}
    by_name = set()
    for origin in origins:
        patients = set(origin.patients)
        by_name |= {name for name in everybody if salted(origin.salt, name) in patients}
    return Known(tuple(sorted(by_name | by_recording)), tuple(sorted(by_recording - by_name)), len(everybody))


def changes(origin: Origin, shards: Sequence[Shard], tasks: Sequence[str]) -> list[str]:
    """What of some shards is other than an origin says, in words; nothing where they are the same."""
    here = origin_of(shards, tasks, salt=origin.salt)
    found = []
    for what in ("patients", "recordings", "shards"):
        before, given = set(getattr(origin, what)), set(getattr(here, what))
        if before != given:
            found.append(f"{len(given - before)} {what} are new and {len(before - given)} of {len(before)} are gone")
    return found


def _recordings(shard: Shard, tasks: Sequence[str] | None) -> Int[np.ndarray, "_recording"]:
    """Recordings with a window, and with a label for one of the tasks if these are given."""
    if tasks is None:
        return np.unique(shard.recording)
    weights = [shard.weights[task] for task in tasks if task in shard.weights]
    return np.unique(shard.recording[np.any([weight > 0 for weight in weights], axis=0)]) if weights else np.arange(0)
