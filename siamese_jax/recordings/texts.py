"""What the text of an annotation means: a sleep stage, a discharge, doubt about one, or something else that is known.

Readers write freely, so a text is read by its words, whatever its case, accents and punctuation. A text that may name
a discharge but does not clearly do so is `doubt`: its windows get no label, since to call them free of discharges may
be as wrong as to call them positive.

Sources: EDF+ standard texts; Rechtschaffen and Kales 1968; AASM manual; for epileptiform patterns and benign variants
the IFCN glossary 2017 (Kane et al.); for periodic discharges, which are apart from interictal activity, HED-SCORE 2.1
and ACNS 2021.
Words met in Sleep-EDF, CAP, NSRR (XML), YASA, vEpiSet and TUEV.
"""

import re
import unicodedata
from typing import Literal

from siamese_jax.vocabulary import standard_name

Stage = Literal["W", "N1", "N2", "N3", "R"]
SleepMeaning = Literal["W", "N1", "N2", "N3", "R", "asleep", "unscored"]
IedMeaning = Literal["ied", "doubt", "other"]

_MACHINE = re.compile(r"\S+ p=[01](\.\d+)?")


def is_machine_text(text: str) -> bool:
    """Whether `siamese-jax detect` wrote a text about an event: `IED p=0.93`."""
    return _MACHINE.fullmatch(text.strip()) is not None


def _words(text: str) -> list[str]:
    """The words of a text: small letters without accents, numbers apart from `?` and `!`."""
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    plain = plain.replace("w/o", " without ").replace("r/o", " possible ").replace("&", " and ")
    return re.findall(r"[a-z0-9]+|[?!]", plain)


# --- sleep ------------------------------------------------------------------------------------------------------

_STAGE_WORDS = {"stage", "stages", "sleepstage", "stadium", "schlafstadium", "stade", "estadio", "fase"}
_SLEEP_WORDS = {"sleep", "schlaf", "sommeil", "sueno"}
_FILLERS = {"nrem", "de", "of", "the", "aasm"}
_STAGES: dict[str, Stage] = {
    **dict.fromkeys(("w", "wk", "wake", "wakefulness", "waking", "awake", "s0", "wach", "wachheit"), "W"),
    **dict.fromkeys(("eveil", "veille", "eveille", "vigilia", "despierto", "despierta"), "W"),
    **dict.fromkeys(("n1", "s1"), "N1"),
    **dict.fromkeys(("n2", "s2"), "N2"),
    **dict.fromkeys(("n3", "n4", "s3", "s4", "sws", "tiefschlaf"), "N3"),
    **dict.fromkeys(("r", "re", "rem", "paradoxal"), "R"),
}
_DIGITS: dict[str, Stage] = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "R"}
"""A bare digit is a stage only after the word stage, or NREM: alone it may be any event code."""
_DEEP = {"slowwave", "deep", "profond", "profundo"}
_ASLEEP = {"sleeping", "asleep", "schlafend", "dormido", "leichtschlaf"}
_LIGHT = {"", "light", "leger", "ligero"}
_UNSCORED = {
    *("?", "mt", "movementtime", "unknown", "unscored", "notscored", "uns", "unstaged", "notstaged", "unbekannt"),
}
_NO_STAGE = {"", "no", "none", "m", "u", "na", "movement", "undefined", "undef", "6", "7", "9"}

_END = re.compile(r"lights? on|licht an|recording (ends?|stop(s|ped)?)|end of (recording|study)")


def sleep_meaning(text: str) -> SleepMeaning | None:
    """The stage that a text names, `asleep` if none, `unscored` if nobody scored it; None if it is not about stages.

    Rechtschaffen and Kales stages 3 and 4 are both N3 (AASM manual 2007). What follows `|` in NSRR's XML is a code that
    repeats the word before it.
    """
    words = re.sub(r"\bnon ?rem ?|\bnrem ?", "nrem ", _joined(text.partition("|")[0])).split()
    staged, sleeping, nrem = (bool(some & {*words}) for some in (_STAGE_WORDS, _SLEEP_WORDS, {"nrem"}))
    rest = "".join(word for word in words if word not in _STAGE_WORDS | _SLEEP_WORDS | _FILLERS)
    stage = _STAGES.get(rest) or (_DIGITS.get(rest) if staged or nrem else None)
    if stage or sleeping and rest in _DEEP:
        return stage or "N3"
    if rest in _UNSCORED or staged and rest in _NO_STAGE or text.endswith(("|6", "|9")):
        return "unscored"
    return "asleep" if rest in _ASLEEP or (sleeping or nrem) and rest in _LIGHT else None


def stage_of(text: str) -> Stage | None:
    """The AASM stage (`W N1 N2 N3 R`) that a text names, or None."""
    meaning = sleep_meaning(text)
    return None if meaning in ("asleep", "unscored") else meaning


def ends_scoring(text: str) -> bool:
    """Whether nobody scores stages after it: `Lights on`, the end of a recording."""
    return _END.match(_joined(text)) is not None


# --- discharges -------------------------------------------------------------------------------------------------

_BENIGN = re.compile(
    r"\b(vertex (sharps?( (waves?|transients?))?|waves?|transients?)|v ?waves?|posts|bsss|s?sss|bets?"
    r"|wickets?( spikes?| waves?| rhythm)?"
    r"|positive occipital sharp (transients?|waves?)( of sleep)?|lambda( waves?)?|mu( rhythm)?|breach( rhythm)?"
    r"|(14 and 6|6 and 14)( hz| per second)?( positive)?( spikes?| bursts?)?|positive spikes?"
    r"|(benign )?small sharp (spikes?|transients?)( of sleep)?|benign( \w+){0,2} (spikes?|transients?|variants?|waves?)"
    r"|(6 hz )?phantom( spike)?( and)?( waves?)?|6 hz spike( and)? waves?|rmtd|psychomotor variant|k ?complex(es)?"
    r"|(sleep )?spindles?|saw ?tooth( waves?)?|sharply( contoured)?( \w+)?|hypnagogic( \w+)?)\b"
)
"""Patterns that look like discharges and are not (IFCN glossary, 2.4; `vertex` alone is a place)."""
_PERIODIC = re.compile(r"\b((g|l|bi|mf|ui)?pds?|(bi|m)?pleds?|gpeds?|periodic|triphasic|b?irds)\b")
"""Discharges, but none of interictal activity by ACNS 2021 and HED-SCORE: no label rather than either."""
_ICTAL = re.compile(r"\b(ictal|seizures?|szr?|electrographic|anfall|anfalle|crise|crisis)\b")
_CLEAR = re.compile(
    r"\b((poly ?)?spikes?( ?waves?)?|poly ?spikewaves?|sharp ?waves?|sharp( and)? slow( waves?)?|ieds?|spsw"
    r"|epileptiform(e|es|a|as)?( \w+)?|epilepsietypisch\w*( \w+)?|interictal (epileptiform|discharges?|spikes?)"
    r"|(poly ?)?pointes?( ondes?)?|ondes? pointues?|(poli ?)?puntas?( ondas?)?|ondas? agudas?|steile wellen?)\b"
)
_BRIEF = re.compile(r"\b(sharps?|eds?|gsw|psw|spw|swd|iea)\b")
"""Discharges in a reader's shorthand; only if nothing but places and numbers stands beside them."""
_VAGUE = re.compile(r"\b(sw|discharges?|sharp|eds?|epileptic|epileptogenic|epi|pathologic\w*|paroxysm\w*)\b")
"""`SW` is a sharp, a spike or a slow wave."""
_DOUBTS = frozenset(
    "? possible possibly probable probably maybe perhaps questionable suspicious suspected vs versus or oder ou"
    " equivocal unclear uncertain unsure like resembling pseudo rule nonepileptiform unsicher fraglich moglich"
    " mogliche verdacht doute douteux dudoso posible".split()
)
_NOT = frozenset(
    "no not non none never without denies nil absence lack 0 zero kein keine keinen ohne nicht pas sans aucune"
    " sin ningun ninguna".split()
)
_NOT_AFTER = frozenset("absent free negative disappear disappeared resolved".split())
_ARTEFACTS = re.compile(
    r"\b(art[ei]fact(s|ual)?|artefakte?n?|artefacto?s?|muscle|muscular|muskel|myogenic|emg|ecg|ekg|cardiac|pacemaker"
    r"|blinks?|eyes?|electrode|pops?|movement|chew(ing)?|noise|mains|calibration|impedance|sweat|cough|swallow(ing)?"
    r"|glossokinetic)\b"
)
_LINKS = frozenset("with and during plus but mit und avec et con y after before over on in".split())
_PLACES = frozenset(
    "left right l r lt rt bi bilat bilateral links rechts gauche droite temporal frontal central parietal"
    " occipital frontotemporal temporoparietal centrotemporal frontocentral frontopolar centroparietal"
    " parietooccipital midtemporal anterior posterior mid midline vertex ant post front temp occ par generalized"
    " generalised gen focal multifocal diffuse hemisphere lobe region max maximum area at in over on of the a an"
    " any and more single isolated rare few occasional frequent run runs burst bursts train trains x hz s sec"
    " small large wave waves slow complex complexes discharge discharges activity phase reversal clear definite"
    " convincing obvious such true real further epileptiform interictal poly evidence sharp spike".split()
)
"""Where, how often and how large: words that leave a discharge a discharge."""
_MOST_WORDS = 12
"""A longer text is a remark about the recording rather than a mark of one discharge."""
_OTHER = re.compile(
    r"(bad|eyes?|eo|ec|hv|phv|hyperventilation|post ?hv|photic|ips|ps|lights?|arousals?|apno?eas?|hypopno?ea"
    r"|obstructive|central apn\w+|mixed apn\w+|desat\w*|spo2|snor\w+|leg|limb|plms?|body|position|supine|prone|lateral"
    r"|art[ei]fact|artefakt|movement|moves?|moving|muscle|blinks?|chew\w*|swallow\w*|talk\w*|cough\w*|calibrat\w*"
    r"|impedance|montage|gain|filter|lff|hff|notch|sensitivity|recording|start|end|stop|begin\w*|pause|boundary"
    r"|new segment|technician|nurse|(\w+ )?slow ?waves?|simulated recording|drows\w*|electrode|ecg|ekg|emg|eog|bruxism"
    r"|rera|periodic (leg|limb|breathing)|rhythmic delta|[gl]rda)\b"
)
"""What marks in clinical files are often about, and is no discharge."""


def ied_meaning(text: str) -> IedMeaning | None:
    """What a text says of interictal epileptiform discharges.

    `ied`: it marks one (spike, polyspike, sharp wave, spike-and-slow-wave: IFCN glossary; TUEV's `SPSW`; vEpiSet's `!`,
    but not `!g`). `doubt`: it may (`spike?`, `sharp transient`, `SW`), or it marks what is neither that nor free of it
    (periodic discharges, seizures). `other`: it is known to be about something else (`no spikes`, `muscle spike`,
    `vertex sharp wave`, `Eyes open`). None: it is not understood.
    """
    if re.fullmatch(r"!(?!g).*", text.strip(), re.IGNORECASE):
        return "ied"
    bare = _joined(text)
    rest = _BENIGN.sub(" ", bare)
    found = _CLEAR.search(rest)
    if found is None:
        return _unclear(bare, rest)
    words = rest.split()
    before, after = rest[: found.start()].split(), rest[found.end() :].split()
    negated = _NOT & {*words}
    if negated and _denied(before, after):
        return "other"
    artefact = _ARTEFACTS.search(rest)
    if artefact and len(words) <= 5 and not (_LINKS | _DOUBTS) & {*words}:
        return "other"
    unsure = negated or artefact or _DOUBTS & {*words} or _NOT_AFTER & {*words} or rest != bare
    if unsure or _PERIODIC.search(rest) or _ICTAL.search(rest) or len(words) > _MOST_WORDS:
        return "other" if after[:1] and after[0] in _NOT_AFTER and not _DOUBTS & {*words} else "doubt"
    return "ied"


def is_ied(text: str) -> bool:
    """Whether a text marks an interictal epileptiform discharge."""
    return ied_meaning(text) == "ied"


def _unclear(bare: str, rest: str) -> IedMeaning | None:
    """What a text without a clear word for a discharge says."""
    words, vague = rest.split(), _BRIEF.search(rest) or _VAGUE.search(rest)
    if _BRIEF.search(rest) and all(_is_beside(word) or _BRIEF.fullmatch(word) for word in words):
        return "ied"
    if vague and _NOT & {*words} and _denied(words, []):
        return "other"
    if vague or _ICTAL.search(rest) or _PERIODIC.search(rest) and not _OTHER.match(rest):
        return "doubt"
    return "other" if rest != bare or _OTHER.match(bare) or _ARTEFACTS.search(bare) else None


def _is_beside(word: str) -> bool:
    """Whether a word says where or how often a discharge is."""
    return word in _PLACES or word.isdigit() or standard_name(word) is not None


def _denied(before: list[str], after: list[str]) -> bool:
    """Whether the last words before a discharge deny it, or those after it: `no clear spikes`, `spikes not seen`."""
    while before and before[-1] in _PLACES:
        before = before[:-1]
    return bool(before) and before[-1] in _NOT or after[:1] == ["not"]


def _joined(text: str) -> str:
    return " ".join(_words(text))
