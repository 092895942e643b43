"""Which channel of a file is used for each requested electrode, and why the others are not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from siamese_jax.vocabulary import (
    EARS,
    MIN_EEG_SFREQ_HZ,
    NEIGHBOURS,
    channel_kind,
    common_reference,
    standard_name,
    unit_factor,
)

PLAUSIBLE_UV = (2.0, 500.0)
"""Robust standard deviation of scalp EEG; a wrong unit makes it a thousand or a million times larger or smaller."""
PLAUSIBLE_ECG_UV = (2.0, 5000.0)
"""The same of an electrocardiogram, the median over its leads: 14 to 1400 uV in 355 records of LUDB and CinC 2021."""


class FileChannel(NamedTuple):
    """One signal of a file, as its header describes it."""

    label: str
    unit: str
    sfreq: Fraction
    problem: str | None = None
    """Why its samples cannot be turned into volts, if so."""
    warning: str | None = None
    """What to say if it is used."""


class Chosen(NamedTuple):
    """The channel that serves an electrode."""

    index: int
    factor_uv: float
    """Microvolts in one of its unit."""


@dataclass(frozen=True)
class ChannelReport:
    """What a reader found in a file and what it made of it."""

    used: dict[str, str]
    """Standard name of each electrode that is there, and the label it has in the file."""
    renamed: dict[str, str]
    """Of those, labels whose electrode has another name here (`T7` is `T3`), and that name."""
    missing: tuple[str, ...]
    """Requested electrodes that are not usable."""
    ignored: dict[str, str]
    """Labels not used, and why."""
    warnings: tuple[str, ...] = field(default=())
    truncated: bool = False
    """Whether the file holds fewer data than its header claims, or the header does not know."""
    records_expected: int | None = None
    """Data records that the header claims; None if it does not know."""
    records_read: int = 0
    """Whole data records in the file."""


def choose_channels(
    channels: Sequence[FileChannel],
    ch_names: Sequence[str],
    *,
    units: Mapping[str, str],
    source: str,
    spreads: Callable[[Sequence[int]], Mapping[int, list[float]]],
    nearest: bool = False,
) -> tuple[dict[str, Chosen], ChannelReport]:
    """The channel for each of `ch_names`, and the report on all of them.

    An electrode is looked for by its standard name; if it is not there by itself, its derivation against an ear or
    mastoid (`C3-A2`) stands for it, with a warning, or, where all EEG of the file is recorded against one scalp
    electrode (`C3-Pz`, `O1-Pz`), its derivation against that one, which is then absent itself. Of several channels
    the first that carries a signal in a unit of voltage is used; a warning names the others.

    Where no channel chosen is EEG, amplitude is judged on ECG by its leads' median: single leads may be all but flat.

    Args:
        channels: what the file holds.
        ch_names: electrodes wanted.
        units: unit to read a channel in, whatever the header says, by the file's label or the standard name in any
            letter case, or `*` for all.
        source: the file's name, for messages.
        spreads: measures channels, given by their positions: `spreads_of` stretches of them, each in its own unit.
        nearest: let one of `NEIGHBOURS` stand in for an electrode of the 10-20 system that is not there, each for one.

    Returns:
        the chosen channel by name, in the order of `ch_names` and without those missing; and the report.

    Raises:
        ValueError: no wanted EEG channel can be used; a needed channel has an unknown unit; channels that
            name different common references would be mixed; a unit for a channel that is neither there nor wanted.
    """
    names = [standard_name(channel.label) or channel.label for channel in channels]
    keys = _distinct([channel.label for channel in channels])
    given, warnings = _given_units(channels, names, ch_names, units, source)
    reference, is_bipolar = _second_electrodes(names)
    candidates = {name: _candidates(names, standard_name(name) or name, reference) for name in ch_names}
    near = {name: _near(names, name, ch_names, reference) for name in ch_names if nearest}
    candidates |= {name: candidates[name] + places for name, places in near.items()}
    problems = {i: why for i, channel in enumerate(channels) if (why := _unusable(channel))}
    problems |= {i: "the reference of the other channels" for i, name in enumerate(names) if name == reference}
    spread = spreads(sorted({i for found in candidates.values() for i in found} - set(problems)))
    problems |= {i: "constant" for i, values in spread.items() if not values}
    factors = {i: unit_factor(given.get(i, channel.unit)) for i, channel in enumerate(channels)}
    found: dict[str, int] = {}
    for name, places in candidates.items():
        taken = {*found.values()} & {*near.get(name, ())}
        usable = [i for i in places if i not in problems and i not in taken]
        if usable:
            found[name] = next((i for i in usable if factors[i] is not None), usable[0])
    ignored = {
        keys[i]: problems.get(i) or _why_not_asked(names[i], channel, found, is_bipolar=is_bipolar)
        for i, channel in enumerate(channels)
        if i not in found.values()
    }
    _check_any(keys, names, ch_names, found, ignored, source)
    _check_references([channels[i].label for i in found.values()], source)
    chosen = {name: _chosen(i, name, channels[i], factors[i], source) for name, i in found.items()}
    warnings += [f"{channels[i].label}: {said}" for i in found.values() if (said := channels[i].warning)]
    warnings += _passed_over(names, keys, candidates, found, ignored)
    warnings += _unit_warnings(channels, found, given)
    stand_ins = {name: i for name, i in found.items() if i in near.get(name, ())}
    if stand_ins:
        said = ", ".join(f"{keys[i]} for {name}" for name, i in stand_ins.items())
        warnings.append(f"a near electrode stands in for one that is missing: {said}")
    warnings += _reference_warnings(names, keys, {n: i for n, i in found.items() if n not in stand_ins}, reference)
    dead = [name for name in ch_names if name not in found and any(not spread.get(i, [0]) for i in candidates[name])]
    if dead:
        warnings.append(f"constant in every stretch sampled, taken as absent: {', '.join(dead)}")
    spreads_uv = {name: float(np.median(spread[one.index])) * one.factor_uv for name, one in chosen.items()}
    warnings += _amplitude_warnings(spreads_uv)
    used = {name: channels[i].label for name, i in found.items()}
    report = ChannelReport(
        used=used,
        renamed={label: name for name, label in used.items() if name.lower() not in label.lower()},
        missing=tuple(name for name in ch_names if name not in used),
        ignored=ignored,
        warnings=tuple(warnings),
    )
    return chosen, report


def spreads_of(stretches: Iterable[Mapping[int, Float[np.ndarray, "_"]]]) -> dict[int, list[float]]:
    """Each channel's robust standard deviation in every stretch in which it is not constant.

    It is 1.4826 times the median absolute deviation.
    """
    found: dict[int, list[float]] = {}
    for stretch in stretches:
        for index, signal in stretch.items():
            spreads = found.setdefault(index, [])
            if signal.min() != signal.max():
                spreads.append(1.4826 * float(np.median(np.abs(signal - np.median(signal)))))
    return found


def _distinct(labels: Sequence[str]) -> list[str]:
    """Labels with a count after those that occur again, so that each is one key of the report."""
    return [
        f"{label} (#{labels[:i].count(label) + 1})" if label in labels[:i] else label for i, label in enumerate(labels)
    ]


# --- units --------------------------------------------------------------------------------------------------


def _given_units(
    channels: Sequence[FileChannel],
    names: Sequence[str],
    ch_names: Sequence[str],
    units: Mapping[str, str],
    source: str,
) -> tuple[dict[int, str], list[str]]:
    """The unit given for each channel, if any: by its label rather than its standard name, by that rather than `*`."""
    by_label, by_name, warnings = {}, {}, []
    wanted = {standard_name(name) or name for name in ch_names}
    for key, unit in units.items():
        if unit_factor(unit) is None:
            raise ValueError(f"{source}: the unit given, {key}={unit}, is no known unit of voltage")
        name = standard_name(key)
        labelled = [i for i, channel in enumerate(channels) if channel.label.lower() == key.lower()]
        named = [i for i, other in enumerate(names) if name in (other, other.partition("-")[0])]
        by_label |= dict.fromkeys(labelled, unit)
        by_name |= dict.fromkeys(named, unit)
        if name in wanted and not labelled and not named:
            warnings.append(f"there is no {name}, for which the unit {unit} is given")
        elif key != "*" and not labelled and not named:
            labels = ", ".join(channel.label for channel in channels)
            raise ValueError(f"{source}: a unit is given for {key} ({key}={unit}), but the channels are {labels}")
    every = {i: units["*"] for i in range(len(channels)) if "*" in units}
    return every | by_name | by_label, warnings


def _chosen(index: int, name: str, channel: FileChannel, factor: float | None, source: str) -> Chosen:
    if factor is None:
        raise ValueError(
            f"{source}: {name} is needed (label {channel.label!r}), but the header's unit {channel.unit!r} is no known"
            f" unit of voltage; say which it is, as in --units {name}=uV"
        )
    return Chosen(index, factor)


def _unit_warnings(channels: Sequence[FileChannel], found: Mapping[str, int], given: Mapping[int, str]) -> list[str]:
    megavolts = [channels[i].label for i in found.values() if channels[i].unit == "MV" and i not in given]
    return [f"the unit MV of {', '.join(megavolts)} is read as mV"] if megavolts else []


# --- which channel ------------------------------------------------------------------------------------------


def _second_electrodes(names: Sequence[str]) -> tuple[str | None, bool]:
    """The one scalp electrode that all EEG is recorded against, if so; and whether channels are bipolar.

    They are bipolar if their second electrodes differ. Beside EEG against one electrode, no other may stand alone:
    that one's reference would be unknown.
    """
    eeg = [name for name in names if channel_kind(name) == "eeg" and standard_name(name) == name]
    pairs = [name.split("-") for name in eeg if "-" in name]
    seconds = {second for _, second in pairs if second not in EARS}
    if len(seconds) != 1:
        return None, len(seconds) > 1
    (second,) = seconds
    alone = {name for name in eeg if "-" not in name} - {*EARS, second}
    is_common = len({first for first, _ in pairs}) > 1 and all(other == second for _, other in pairs) and not alone
    return (second if is_common else None), False


def _candidates(names: Sequence[str], wanted: str, reference: str | None) -> list[int]:
    """Channels that may serve an electrode, the best first."""
    alone = [i for i, name in enumerate(names) if name == wanted]
    against = {f"{wanted}-{other}" for other in (*EARS, reference)}
    return alone + [i for i, name in enumerate(names) if name in against]


def _near(names: Sequence[str], wanted: str, ch_names: Sequence[str], reference: str | None) -> list[int]:
    """Channels of electrodes near one, the nearest first, without those that are wanted themselves."""
    near = (other for other in NEIGHBOURS.get(wanted, ()) if other not in ch_names)
    return [i for other in near for i in _candidates(names, other, reference)]


def _unusable(channel: FileChannel) -> str | None:
    name = standard_name(channel.label)
    if name is not None and channel_kind(name) == "eeg" and channel.sfreq < MIN_EEG_SFREQ_HZ:
        return f"{float(channel.sfreq):g} Hz is too slow: IED analysis needs at least {MIN_EEG_SFREQ_HZ:g} Hz"
    return "it has no samples" if channel.sfreq == 0 else channel.problem


def _why_not_asked(name: str, channel: FileChannel, found: Mapping[str, int], *, is_bipolar: bool) -> str:
    first, dash, second = name.partition("-")
    is_asked = name in (standard_name(wanted) or wanted for wanted in found)
    if standard_name(channel.label) is None:
        return f"no known electrode (unit {channel.unit!r})"
    if unit_factor(channel.unit) is None:
        return f"{'' if is_asked else 'not asked for, and '}{channel.unit!r} is no known unit of voltage"
    if is_asked:
        return f"{name} again: another is used"
    if dash and is_bipolar and channel_kind(first) == "eeg" and second not in EARS:
        return "bipolar, not asked for"
    return "not asked for"


def _passed_over(
    names: Sequence[str],
    keys: Sequence[str],
    candidates: Mapping[str, Sequence[int]],
    found: Mapping[str, int],
    ignored: Mapping[str, str],
) -> list[str]:
    """Which channel is used where an electrode has several of its name, or the first could not be used."""
    warnings = []
    for name, index in found.items():
        places = candidates[name]
        worse = [f"{keys[i]} ({ignored[keys[i]]})" for i in places[: places.index(index)]]
        again = [i for i in places[places.index(index) + 1 :] if names[i] == names[index]]
        if worse:
            warnings.append(f"{name} is taken from {keys[index]}, not from {', '.join(worse)}")
        elif again:
            warnings.append(f"{name} occurs more than once: {keys[index]!r} is used")
    return warnings


def _reference_warnings(
    names: Sequence[str], keys: Sequence[str], found: Mapping[str, int], reference: str | None
) -> list[str]:
    """Which electrodes are taken from derivations."""
    taken = {name: i for name, i in found.items() if names[i] != (standard_name(name) or name)}
    ears = [f"{name} from {keys[i]}" for name, i in taken.items() if names[i].partition("-")[2] in EARS]
    warnings = [f"taken from derivations, referenced to the ear: {', '.join(ears)}"] if ears else []
    if len(taken) > len(ears):
        warnings.append(
            f"all EEG is recorded against {reference}: taken as one common reference; {reference} itself is absent"
        )
    return warnings


def _check_any(
    keys: Sequence[str],
    names: Sequence[str],
    ch_names: Sequence[str],
    found: Mapping[str, int],
    ignored: Mapping[str, str],
    source: str,
) -> None:
    eeg = [name for name in ch_names if channel_kind(name) == "eeg"] or list(ch_names)
    if any(name in found for name in eeg):
        return
    by_reason: dict[str, list[str]] = {}
    for key in [key for key, name in zip(keys, names, strict=True) if standard_name(name)] or keys:
        by_reason.setdefault(ignored.get(key, "not wanted"), []).append(key)
    said = (f"{', '.join(labels)} ({reason})" for reason, labels in by_reason.items())
    raise ValueError(
        f"{source} has none of the electrodes wanted ({' '.join(eeg)}) in usable form;"
        f" it has {'; '.join(said) or 'no signals'}"
    )


def _check_references(labels: Sequence[str], source: str) -> None:
    """Refuse electrodes against different common references: a montage would subtract them from one another."""
    eeg = [label for label in labels if channel_kind(standard_name(label) or label) == "eeg"]
    named = {reference: label for label in eeg if (reference := common_reference(label))}
    if len(named) > 1:
        raise ValueError(
            f"{source} mixes common references among the channels wanted:"
            f" {', '.join(sorted(named.values()))}; a montage of them would be wrong"
        )


# --- amplitude ----------------------------------------------------------------------------------------------


def _amplitude_warnings(spreads_uv: Mapping[str, float]) -> list[str]:
    """Channels whose amplitude is not that of EEG; if no channel is EEG, whether that of the ECG is one's."""
    eeg, ecg = ({n: x for n, x in spreads_uv.items() if channel_kind(n) == kind} for kind in ("eeg", "ecg"))
    spreads, (low, high), what = eeg, PLAUSIBLE_UV, "scalp EEG"
    if ecg and not eeg:
        median = float(np.median(list(ecg.values())))
        spreads, (low, high), what = {"the leads' median": median}, PLAUSIBLE_ECG_UV, "an ECG"
    by_factor: dict[float | None, list[str]] = {}
    for name, spread in spreads.items():
        if not low <= spread <= high:
            fits = (factor for factor in (1e3, 1e-3, 1e6, 1e-6) if low <= spread * factor <= high)
            by_factor.setdefault(next(fits, None), []).append(f"{name} ({spread:.3g} uV)")
    otherwise = "no factor of 1e3 or 1e6 would make it so"
    return [
        f"the robust standard deviation is not that of {what} ({low:g} to {high:g} uV):"
        f" {', '.join(said)}; {f'times {factor:g} it would be, is the unit right?' if factor else otherwise}"
        for factor, said in by_factor.items()
    ]
