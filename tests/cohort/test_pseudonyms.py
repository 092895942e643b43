"""Salted pseudonyms: the same for one laboratory everywhere, another for each laboratory, and never a bare hash."""

import hashlib
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from siamese_jax.cohort.pseudonyms import VARIABLE, stored_pseudonyms
from siamese_jax.cohort.sources import Folder


def test_a_pseudonym_is_the_salted_hash_and_differs_between_laboratories():
    one, other = (stored_pseudonyms({VARIABLE: f"laboratory {n}"}) for n in (1, 2))
    assert one.of("Jane Doe") == "edf-" + hashlib.sha256(b"laboratory 1\0Jane Doe").hexdigest()[:10]
    assert one.of("Jane Doe") != other.of("Jane Doe") != "edf-" + hashlib.sha256(b"Jane Doe").hexdigest()[:10]
    assert one.of("Jane Doe") != one.of("John Doe")


def test_the_salt_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    with ThreadPoolExecutor(8) as pool:  # all at once: one wins
        made = {p.salt for p in pool.map(lambda _: stored_pseudonyms(environment), range(16))}
    (path,) = (tmp_path / "siamese-jax").iterdir()
    assert path.name == "salt" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made == {path.read_text().strip()} and len(path.read_text().strip()) == 64
    assert stored_pseudonyms(environment).of("x") == stored_pseudonyms(environment).of("x")


def test_without_a_salt_only_a_code_is_refused_and_the_variable_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    without = stored_pseudonyms({"XDG_CONFIG_HOME": str(tmp_path / "file")})
    with pytest.raises(ValueError, match=r"file/siamese-jax/salt cannot be used \(.*\): set SIAMESE_JAX_SALT"):
        without.of("Jane Doe")
    (tmp_path / "siamese-jax").mkdir()
    (tmp_path / "siamese-jax" / "salt").write_text("\n")
    with pytest.raises(ValueError, match="it holds no salt"):
        stored_pseudonyms({"XDG_CONFIG_HOME": str(tmp_path)}).of("Jane Doe")
    with pytest.raises(ValueError, match="SIAMESE_JAX_SALT must be 8 characters or more"):
        stored_pseudonyms({VARIABLE: "short"}).of("Jane Doe")


def test_the_salt_travels_with_a_source_and_is_not_shown(tmp_path, monkeypatch):
    here = Folder(tmp_path)
    monkeypatch.setitem(os.environ, VARIABLE, "another worker's")
    there = pickle.loads(pickle.dumps(here))
    assert (
        there.pseudonyms.of("Jane Doe") == here.pseudonyms.of("Jane Doe") != Folder(tmp_path).pseudonyms.of("Jane Doe")
    )
    assert here.pseudonyms.salt not in repr(here)
    assert here.pseudonyms.salt not in repr(here.options())
