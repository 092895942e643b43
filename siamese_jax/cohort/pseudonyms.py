"""Pseudonyms of patients whom only a code in an EDF header names: hashes with a salt that the user keeps.

Codes are often names, or short numbers that can be tried in a second; without the salt nobody can find the code of a
pseudonym. The salt is the text in the environment variable SIAMESE_JAX_SALT, else a random one that is kept in the
user's configuration folder. With one salt, a code has the same pseudonym in all data sets.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = "SIAMESE_JAX_SALT"
LEAST_CHARACTERS = 8


@dataclass(frozen=True)
class Pseudonyms:
    """Gives pseudonyms; made once in the process that runs `prepare`, and carried by the source to its workers."""

    salt: str = field(repr=False)
    problem: str = ""
    """Why there is no salt: raised only where one is needed."""

    def of(self, code: str) -> str:
        """The pseudonym of a patient code.

        Raises:
            ValueError: there is no salt.
        """
        if self.problem:
            raise ValueError(self.problem)
        digest = hashlib.sha256(f"{self.salt}\0{code}".encode()).hexdigest()
        return f"edf-{digest[:10]}"


def stored_pseudonyms(environment: Mapping[str, str] = os.environ) -> Pseudonyms:
    """With the salt of the environment, else of the user's configuration folder, made there if there is none."""
    if given := environment.get(VARIABLE, ""):
        short = f"{VARIABLE} must be {LEAST_CHARACTERS} characters or more: a short salt can be tried"
        return Pseudonyms(given, "" if len(given) >= LEAST_CHARACTERS else short)
    path = _file(environment)
    try:
        return Pseudonyms(_read_or_make(path))
    except (OSError, ValueError) as error:
        return Pseudonyms("", f"patients' codes need a salt, and {path} cannot be used ({error}): set {VARIABLE}")


def _file(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CONFIG_HOME", "")
    return (Path(home) if home else Path.home() / ".config") / "siamese-jax" / "salt"


def _read_or_make(path: Path) -> str:
    """The salt in a file that only its owner may read; of two processes that make it at once, one wins."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".salt.{secrets.token_hex(8)}.partial")
        try:
            partial.touch(mode=0o600, exist_ok=False)
            with partial.open("w") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(partial, path)  # unlike a renaming, it leaves a salt that is there by now
            except FileExistsError:
                pass
        finally:
            partial.unlink(missing_ok=True)
    salt = path.read_text().strip()
    if len(salt) < LEAST_CHARACTERS:
        raise ValueError(f"it holds no salt of {LEAST_CHARACTERS} characters or more")
    return salt
