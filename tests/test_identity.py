"""Identities: whom something came from is known again by name or by recording, and by nothing that is written down."""

import dataclasses
import json

import pytest

from siamese_jax.config.typed import typed
from siamese_jax.identity import Identity, changes, known_to, new_training, origin_of, salted
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.schema import open_shard
from siamese_jax.shards.write import write_shard
from tests.recordings.in_memory import info_of, labelled, noise, recording_of


@pytest.fixture
def shard_of(tmp_path):
    """A shard of patients by name, a recording each, by their files' digests; those in `unlabelled` have no label."""

    def make(digests: dict[str, str], *, fingerprint: str = "f", unlabelled=()):
        recordings = [
            labelled(
                recording_of([noise(1000)]),
                [Annotation(2.0, 0.1, "IED")],
                name=f"{name}.edf",
                patient=name,
                labelled_for=() if name in unlabelled else ("ied",),
            )
            for name in digests
        ]
        recordings = [item._replace(digest=digests[item.patient]) for item in recordings]
        path = tmp_path / f"{'-'.join(digests)}.h5"
        info = dataclasses.replace(info_of(recordings[0].recording), fingerprint=fingerprint, source="our lab\x1b[2J")
        write_shard(path, recordings, info=info)
        return open_shard(path)

    return make


def test_no_name_is_written_and_two_origins_of_one_patient_do_not_look_alike(shard_of):
    shard = shard_of({"Jane Doe": "d1", "John Doe": "d2"})
    one, other = origin_of([shard], ["ied"]), origin_of([shard], ["ied"])
    assert "Doe" not in repr(one) and not set(one.patients) & set(other.patients)
    assert one.patients == tuple(sorted(salted(one.salt, name) for name in ("Jane Doe", "John Doe")))
    assert (one.recordings, one.shards, one.sources) == (("d1", "d2"), ("f",), ("our lab [2J",))


def test_patients_are_known_again_by_name_and_by_recording(shard_of):
    origin = origin_of([shard_of({"A": "a", "B": "b", "C": ""})], ["ied"])
    known = known_to([origin], [shard_of({"A": "another file", "X": "b", "Y": "y", "Z": ""})], ["ied"])
    assert known == (("A", "X"), ("X",), 4)
    assert known.text() == "2 of 4 patients (A, X; by their recordings, under other names: X)"
    assert known_to([], [shard_of({"A": "a"})], ["ied"]).patients == ()


def test_who_has_no_label_of_the_tasks_was_not_learnt_from(shard_of):
    shard = shard_of({"A": "a", "B": "b"}, unlabelled=("B",))
    origin = origin_of([shard], ["ied"])
    assert origin.patients == (salted(origin.salt, "A"),) and origin.recordings == ("a",)
    assert origin_of([shard], ["sleep"]).patients == origin_of([shard], ["of no shard"]).patients == ()
    assert len(origin_of([shard]).patients) == 2
    assert origin_of([shard.of_patients(["B"])], salt=origin.salt).recordings == ("b",)


def test_what_changed_is_counted(shard_of):
    origin = origin_of([shard_of({"A": "a", "B": "b"})], ["ied"])
    assert changes(origin, [shard_of({"A": "a", "B": "b"})], ["ied"]) == []
    assert changes(origin, [shard_of({"A": "a", "B": "b2"})], ["ied"]) == ["1 recordings are new and 1 of 2 are gone"]
    assert changes(origin, [shard_of({"A": "a", "C": "c", "D": "d"}, fingerprint="g")], ["ied"]) == [
        "2 patients are new and 1 of 2 are gone",
        "2 recordings are new and 1 of 2 are gone",
        "1 shards are new and 1 of 1 are gone",
    ]


def test_an_identity_survives_json(shard_of):
    training = new_training([shard_of({"A": "a"})], [shard_of({"B": "b"})], ["ied"])
    assert training.training.salt == training.validation.salt
    identity = Identity((training, new_training([], [], ["ied"])))
    assert typed(Identity, json.loads(json.dumps(dataclasses.asdict(identity))), "identity") == identity
    assert identity.sources == ("our lab [2J",)
