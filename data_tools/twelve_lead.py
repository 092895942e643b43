"""LUDB and the CinC Challenge 2021 as one: `python -m data_tools.twelve_lead OUT --ludb FOLDER --cinc FOLDER`.

Two data sets that do not look for the same things. So each finding is a binary task of its own, and A RECORD WHOSE
DATA SET NEVER ANNOTATES A FINDING HAS NO LABEL FOR IT, which is not the same as being free of it. What means the same
in both is one finding (`FINDINGS` says why); the rest are labelled in one of them alone.

The challenge is seven collections, and they differ too. A collection is taken to have looked for a diagnosis if it
gives it to one in 500 of its records or more, by the challenge's own table (`GIVEN`, FACT; the limit is ours). So CPSC
has no sinus bradycardia and PTB-XL no ventricular extrasystoles, under the codes that were scored. In Ningbo, 7615
of 34,905 have a flutter and none a fibrillation: fibrillation and flutter are one finding here. Chapman-Shaoxing ends
at JS10646, then Ningbo begins (RECALL).

A line to train with, on some of the findings:

    siamese-jax train SHARDS RUN --preset ecg --tasks AF IAVB RBBB PVC
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import tyro
from tyro.conf import Positional

from data_tools.cinc2021 import COLLECTIONS, Cinc2021
from data_tools.ludb import Ludb
from data_tools.wfdb import DEFAULT_DATA
from siamese_jax.cli.console import run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.labels import Rule, StateRule, TextClasses
from siamese_jax.vocabulary import TaskSpec


class Finding(NamedTuple):
    """A finding, and the classes of both data sets that mean it; none where a data set has no such class."""

    name: str
    ludb: tuple[str, ...]
    cinc: tuple[str, ...]
    reason: str


_SAME = "the same words in both"
_LUDB = "in LUDB alone: the challenge scored no such diagnosis"
_CINC = "in the challenge alone: LUDB has no such class"

FINDINGS: tuple[Finding, ...] = (
    # rhythm
    Finding("NSR", ("NSR",), ("NSR",), "a sinus rhythm that is none of the following three"),
    Finding("STach", ("STach",), ("STach",), _SAME),
    Finding("SB", ("SB",), ("SB",), _SAME),
    Finding("SA", ("SA", "irregular"), ("SA",), "LUDB's irregular sinus rhythm is a sinus arrhythmia"),
    Finding("AF", ("AF", "AFL"), ("AF", "AFL"), "fibrillation or flutter: Ningbo does not distinguish them"),
    Finding("PAC", ("PAC",), ("PAC",), "atrial and supraventricular premature beats; the challenge scored them as one"),
    Finding("PVC", ("PVC",), ("PVC",), "ventricular premature beats, single or in groups"),
    Finding("PR", ("PR",), ("PR",), "any pacing: the challenge does not distinguish atrial from ventricular"),
    # conduction
    Finding("IAVB", ("IAVB",), ("IAVB",), _SAME),
    Finding("IRBBB", ("IRBBB",), ("IRBBB",), _SAME),
    Finding("RBBB", ("RBBB",), ("RBBB",), "complete; the challenge scored the unspecified one with it"),
    Finding("LBBB", ("LBBB",), ("LBBB",), "complete; the challenge scored the unspecified one with it"),
    Finding("LAnFB", ("LAnFB",), ("LAnFB",), "hemiblock and fascicular block are one thing"),
    Finding("NSIVCB", ("NSIVCB",), ("NSIVCB",), "delay and disorder are one thing"),
    # electrical axis
    Finding("LAD", ("LAD",), ("LAD",), _SAME),
    Finding("RAD", ("RAD",), ("RAD",), _SAME),
    Finding("axis-normal", ("axis-normal",), (), _LUDB),
    Finding("axis-vertical", ("axis-vertical",), (), _LUDB),
    Finding("axis-horizontal", ("axis-horizontal",), (), _LUDB),
    # hypertrophy
    Finding("LAH", ("LAH",), (), _LUDB),
    Finding("LAO", ("LAO",), (), _LUDB),
    Finding("LVH", ("LVH",), (), "in LUDB alone: the challenge has it, but does not say who searched for it"),
    Finding("LVO", ("LVO",), (), _LUDB),
    Finding("RAO", ("RAO",), (), _LUDB),
    # ischemia
    Finding("STEMI", ("STEMI",), (), _LUDB),
    Finding("ischemia", ("ischemia",), (), _LUDB),
    Finding("scar", ("scar",), (), _LUDB),
    Finding("ischemia-or-scar", ("ischemia-or-scar",), (), _LUDB),
    # repolarisation and waves
    Finding("repolarisation", ("repolarisation",), (), "in LUDB alone: changes of ST and T together, so not `TAb`"),
    Finding("early-repolarisation", ("early-repolarisation",), (), _LUDB),
    Finding("TAb", (), ("TAb",), "in the challenge alone: LUDB does not distinguish T from ST"),
    Finding("TInv", (), ("TInv",), _CINC),
    Finding("LQT", (), ("LQT",), _CINC),
    Finding("QAb", (), ("QAb",), _CINC),
    Finding("PRWP", (), ("PRWP",), _CINC),
    Finding("LQRSV", (), ("LQRSV",), _CINC),
)

SIZES = (6877, 3453, 74, 516, 21837, 10344, 10247, 34905)
"""Records of CPSC, CPSC-Extra, St Petersburg, PTB, PTB-XL, Georgia, Chapman-Shaoxing, Ningbo (FACT: the challenge)."""
GIVEN: dict[str, tuple[int, ...]] = {
    "AF": (1221, 153, 2, 15, 1514, 570, 1780, 0),
    "AFL": (0, 54, 0, 1, 73, 186, 445, 7615),
    "LBBB": (236, 38, 0, 0, 536, 231, 205, 248),
    "RBBB": (1857, 114, 2, 0, 542, 570, 454, 1291),
    "IAVB": (722, 106, 0, 0, 797, 769, 247, 893),
    "IRBBB": (0, 86, 0, 0, 1118, 407, 0, 246),
    "LAD": (0, 0, 0, 0, 5146, 940, 382, 1163),
    "LAnFB": (0, 0, 0, 0, 1626, 180, 0, 380),
    "LQRSV": (0, 0, 0, 0, 182, 374, 249, 794),
    "NSIVCB": (0, 4, 1, 0, 789, 203, 235, 536),
    "NSR": (918, 4, 0, 80, 18092, 1752, 1826, 6299),
    "PAC": (616, 126, 7, 0, 555, 640, 258, 1063),
    "PR": (0, 3, 0, 0, 296, 0, 0, 1182),
    "PRWP": (0, 0, 0, 0, 0, 0, 0, 638),
    "PVC": (0, 196, 0, 0, 0, 357, 294, 1091),
    "LQT": (0, 4, 0, 0, 118, 1391, 57, 337),
    "QAb": (0, 1, 0, 0, 548, 464, 235, 828),
    "RAD": (0, 1, 0, 0, 343, 83, 215, 638),
    "SA": (0, 11, 2, 0, 772, 455, 0, 2550),
    "SB": (0, 45, 0, 0, 637, 1677, 3889, 12670),
    "STach": (0, 303, 11, 1, 826, 1261, 1568, 5687),
    "TAb": (0, 22, 0, 0, 2345, 2306, 1876, 5167),
    "TInv": (0, 5, 1, 0, 294, 812, 157, 2720),
}
"""How many records each of them gives a diagnosis to (FACT: dx_mapping_scored.csv; codes scored as one are added)."""
LEAST_SHARE = 1 / 500
LAST_OF_CHAPMAN = 10646

_COLUMNS = ("CPSC", "CPSC-Extra", "St Petersburg", "PTB", "PTB-XL", "Georgia")
_RULES = tuple(
    StateRule(
        TaskSpec(f.name, "binary", ("absent", f.name)), TextClasses((("absent", f"no {f.name}"), (f.name, f.name)))
    )
    for f in FINDINGS
)


@dataclass(frozen=True)
class TwelveLead(Source):
    """Records of LUDB (in `root`, if that is a folder of it) and of the challenge, with one task a finding."""

    ludb: Path | None = None
    cinc: Path | None = None

    patients_per_shard: ClassVar[int] = 256

    @property
    def title(self) -> str:
        """The data sets' names."""
        return " and ".join(source.title for source in self._sources.values())

    @property
    def rules(self) -> tuple[Rule, ...]:
        """A task a finding."""
        return _RULES

    def names(self) -> Sequence[str]:
        """Records of both, each behind its data set's short name."""
        return [f"{key}/{name}" for key, source in self._sources.items() for name in source.names()]

    def files(self, name: str) -> Sequence[Path]:
        """As its own data set has them."""
        key, _, own = name.partition("/")
        return self._sources[key].files(own)

    def open(self, name: str, data: DataConfig) -> Opened:
        """A record with what was found, what was not, and nothing about what nobody looked for."""
        key, _, own = name.partition("/")
        source = self._sources[key]
        opened = source.open(own, data)
        (rule,) = source.rules
        there = {rule.class_of(annotation.text) for annotation in opened.annotations}
        bad = [a for a in opened.annotations if rule.class_of(a.text) is None and a.text.startswith("BAD")]
        seconds = opened.recording.segments[0].n_times / data.sfreq
        labelled = opened.searched[rule.task.name]
        searched = {f.name: labelled and _looks(key, own, f) for f in FINDINGS}
        marks = [
            Annotation(0.0, seconds, f.name if there & set(_classes(key, f)) else f"no {f.name}")
            for f in FINDINGS
            if searched[f.name]
        ]
        return opened._replace(annotations=(*marks, *bad), searched=searched)

    def notes(self) -> Sequence[str]:
        """What each data set has to say."""
        return [note for source in self._sources.values() for note in source.notes()]

    def options(self) -> dict[str, object]:
        """Those of both, and who looked for what."""
        own = {key: source.options() for key, source in self._sources.items()}
        return {**own, "findings": [list(f[:3]) for f in FINDINGS], "given": GIVEN, "least_share": LEAST_SHARE}

    @property
    def _sources(self) -> dict[str, Source]:
        both = {"ludb": self.ludb and Ludb(self.ludb), "cinc": self.cinc and Cinc2021(self.cinc)}
        return {key: source for key, source in both.items() if source}


def twelve_lead(ludb: Path | None, cinc: Path | None) -> TwelveLead:
    """The source of one folder or of both.

    Raises:
        ValueError: neither is given.
    """
    root = ludb or cinc
    if root is None:
        raise ValueError("give --ludb FOLDER, --cinc FOLDER or both")
    return TwelveLead(root, ludb, cinc)


def main(
    out: Positional[Path],
    options: Options = ShardOptions(),  # noqa: B008
    *,
    ludb: Path | None = None,
    cinc: Path | None = None,
) -> int:
    """Makes shards of LUDB and of CinC 2021 together, with a binary task for each of 36 findings.

    Args:
        out: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
        ludb: The folder with ludb.csv.
        cinc: Searched for records of the challenge with all folders in it.
    """
    return make_shards(twelve_lead(ludb, cinc), out, DEFAULT_DATA, options)


def collection(name: str) -> str:
    """Which collection of the challenge a record is of, by its name; empty if none is known by its letters."""
    stem = Path(name).stem
    letters, digits = stem.rstrip("0123456789").upper(), stem[len(stem.rstrip("0123456789")) :]
    if letters == "JS":
        return "Chapman-Shaoxing" if digits and int(digits) <= LAST_OF_CHAPMAN else "Ningbo"
    return COLLECTIONS.get(letters, "")


def _looks(key: str, name: str, finding: Finding) -> bool:
    """Whether those who annotated a record looked for a finding."""
    if key == "ludb":
        return bool(finding.ludb)
    places = (*_COLUMNS, "Chapman-Shaoxing", "Ningbo")
    where = collection(name)
    if where not in places or not finding.cinc:
        return False
    i = places.index(where)
    return sum(GIVEN[cls][i] for cls in finding.cinc) >= LEAST_SHARE * SIZES[i]


def _classes(key: str, finding: Finding) -> tuple[str, ...]:
    return finding.ludb if key == "ludb" else finding.cinc


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
