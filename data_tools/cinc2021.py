"""Recordings of the PhysioNet/CinC Challenge 2021 as shards: `python -m data_tools.cinc2021 ROOT OUT`.

88,253 electrocardiograms of twelve leads from seven collections (Reyna et al. 2021;
physionet.org/content/challenge-2021; CC BY 4.0). ROOT holds, in whatever folders,

    E00001.hea   a WFDB header at 500 Hz (257 and 1000 Hz in others), with diagnoses as SNOMED CT codes in a comment
                 `#Dx: 164889003,59118001`; letters name the collection: A and Q CPSC, I St Petersburg, S PTB,
                 HR PTB-XL, JS Chapman-Shaoxing and Ningbo, E Georgia
    E00001.mat   the samples, which the header finds after 24 bytes

Classes are the 26 diagnoses that the challenge scored, in the order of its table; four pairs of codes that it scored as
one are one class here. Traps. Other codes are left out, and a record with none but those is free of all 26. What a
collection never looked for counts as absent there: PTB-XL has no poor R wave progression. WHO THE PATIENTS ARE IS
NOT PUBLISHED: each record counts as a patient of its own, so that one patient may stand in two splits. Lengths are 5 s
to half an hour; a record's diagnoses count for each of its windows. Dates have a form that WFDB does not know: not
used.

A line to train with stands in `data_tools/wfdb.py`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro
from tyro.conf import Positional

from data_tools.wfdb import DEFAULT_DATA, find_headers, read_ecg, read_header
from siamese_jax.cli.console import run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.labels import FindingRule, Rule, TextClasses
from siamese_jax.vocabulary import TaskSpec

SCORED: dict[str, tuple[str, ...]] = {
    "AF": ("164889003",),
    "AFL": ("164890007",),
    "BBB": ("6374002",),
    "Brady": ("426627000",),
    "LBBB": ("733534002", "164909002"),
    "RBBB": ("713427006", "59118001"),
    "IAVB": ("270492004",),
    "IRBBB": ("713426002",),
    "LAD": ("39732003",),
    "LAnFB": ("445118002",),
    "LQRSV": ("251146004",),
    "NSIVCB": ("698252002",),
    "NSR": ("426783006",),
    "PAC": ("284470004", "63593006"),
    "PR": ("10370003",),
    "PRWP": ("365413008",),
    "PVC": ("427172004", "17338001"),
    "LPR": ("164947007",),
    "LQT": ("111975006",),
    "QAb": ("164917005",),
    "RAD": ("47665007",),
    "SA": ("427393009",),
    "SB": ("426177001",),
    "STach": ("427084000",),
    "TAb": ("164934002",),
    "TInv": ("59931005",),
}
"""Diagnoses scored in 2021 and their SNOMED CT codes (FACT: dx_mapping_scored.csv of the challenge)."""

COLLECTIONS = {
    **{"A": "CPSC", "Q": "CPSC-Extra", "I": "St Petersburg", "S": "PTB", "HR": "PTB-XL"},
    **{"E": "Georgia", "JS": "Chapman-Shaoxing and Ningbo"},
}
"""By the letters that a record's name begins with."""

_DIAGNOSES = re.compile(r"dx\s*:(.*)", re.IGNORECASE)
_CODES = re.compile(rb"^\s*#[#\s]*dx\s*:[^\r\n]*\d", re.IGNORECASE | re.MULTILINE)  # the same, in a file's bytes
_RULE = FindingRule(
    TaskSpec("diagnosis", "multilabel", tuple(SCORED)),
    TextClasses(tuple((name, "|".join(codes)) for name, codes in SCORED.items())),
)


@dataclass(frozen=True)
class Cinc2021(Source):
    """Records of the challenge, anywhere in a folder."""

    patients_per_shard: ClassVar[int] = 256

    @property
    def title(self) -> str:
        """The data set's name."""
        return "PhysioNet/CinC Challenge 2021"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The scored diagnoses."""
        return (_RULE,)

    def names(self) -> Sequence[str]:
        """Every header."""
        paths = find_headers(self.root)
        if not paths:
            raise ValueError(f"{self.root} holds no WFDB headers (.hea) of the challenge")
        if not any(_CODES.search(path.read_bytes()) for path in paths):  # the first one, as a rule
            raise ValueError(
                f"{self.root}: none of its {len(paths)} headers gives a diagnosis as the challenge's do (#Dx:)"
            )
        return [path.relative_to(self.root).as_posix() for path in paths]

    def files(self, name: str) -> Sequence[Path]:
        """Signal and header."""
        return [*read_header(self.root / name).files, self.root / name]

    def open(self, name: str, data: DataConfig) -> Opened:
        """A record with the diagnoses in its header."""
        ecg = read_ecg(self.root / name, data)
        said = [found[1] for comment in ecg.comments if (found := _DIAGNOSES.fullmatch(comment))]
        codes = list(dict.fromkeys(re.findall(r"\d+", ",".join(said))))
        n_scored = sum(_RULE.class_of(code) is not None for code in codes)
        notes = [*ecg.notes] if codes else [*ecg.notes, "its header names no diagnosis: not labelled"]
        if n_scored < len(codes):
            notes.append("diagnoses that were not scored left out" + ("" if n_scored else "; it has no other"))
        seconds = ecg.recording.segments[0].n_times / data.sfreq
        return Opened(
            recording=ecg.recording,
            annotations=(*(Annotation(0.0, seconds, code) for code in codes), *ecg.bad),
            patient=Path(name).stem,
            patient_from="record name",
            searched={_RULE.task.name: bool(codes)},
            notes=tuple(notes),
        )

    def notes(self) -> Sequence[str]:
        """How many records each collection has, and that patients are unknown."""
        letters = [Path(name).stem.rstrip("0123456789").upper() for name in self.names()]
        counts = Counter(COLLECTIONS.get(prefix, "of unknown collections") for prefix in letters)
        return [
            f"records found: {', '.join(f'{n} {collection}' for collection, n in sorted(counts.items()))}",
            "who the patients are is not published: two records of one patient may stand in different splits",
        ]


def main(root: Positional[Path], out: Positional[Path], options: Options = ShardOptions()) -> int:  # noqa: B008
    """Makes shards of the CinC Challenge 2021, whose task is `diagnosis`: which of 26 hold of ten seconds of ECG.

    Args:
        root: Searched for records with all folders in it.
        out: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
    """
    return make_shards(Cinc2021(root), out, DEFAULT_DATA, options)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
