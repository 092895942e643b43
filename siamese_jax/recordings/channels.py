"""Which channel of a file serves each electrode asked for, and what became of the others."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from siamese_jax.vocabulary import (
    EARS,
    MIN_EEG_SFREQ_HZ,
    channel_kind,
    common_reference,
    standard_name,
    unit_factor,
)

PLAUSIBLE_UV = (2.0, 500.0)
"""Robust standard deviation of scalp EEG; a wrong unit is wrong by a thousand or a million."""
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
    """Electrodes asked for and not usable."""
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
    channels: Sequence[FileChannel], ch_names: Sequence[str], *, units: Mapping[str, str], source: str
) -> tuple[dict[str, Chosen], ChannelReport]:
    """The channel for each of `ch_names`, and the report on all of them.

    An electrode is looked for by its standard name; if it is not there by itself, its derivation against an
    ear or mastoid (`C3-A2`) stands for it, with a warning. Of two channels of one name the first is used.
    `units` maps a file's label, a standard name or `*` to the unit to read it in, whatever the header says.

    Args:
        channels: what the file holds.
        ch_names: electrodes wanted.
        units: overrides of the header's units.
        source: the file's name, for messages.

    Returns:
        the chosen channel by name, in the order of `ch_names` and without those missing; and the report.

    Raises:
        ValueError: no wanted EEG channel can be used; a needed channel has an unknown unit; channels that
            name different common references would be mixed.
    """
    ignored: dict[str, str] = {}
    warnings: list[str] = []
    keys = _distinct([channel.label for channel in channels])
    by_name: dict[str, int] = {}
    for index, channel in enumerate(channels):
        name = standard_name(channel.label) or channel.label
        reason = _unusable(channel)
        if reason is None and name in by_name:
            reason = f"{name} again: the first one is used"
            if name in ch_names:
                warnings.append(f"{name} occurs more than once: {channels[by_name[name]].label!r} is used")
        if reason is None:
            by_name[name] = index
        else:
            ignored[keys[index]] = reason
    found = {name: index for name in ch_names if (index := _find(by_name, name)) is not None}
    _check_any(channels, ch_names, found, ignored, source)
    _check_references([channels[index].label for index in found.values()], source)
    chosen = {name: Chosen(i, _factor(channels[i], name, units, source)) for name, i in found.items()}
    warnings += _warnings(channels, chosen, units)
    for index, channel in enumerate(channels):
        if index not in found.values() and keys[index] not in ignored:
            ignored[keys[index]] = _why_not_asked(channel)
    used = {name: channels[index].label for name, index in found.items()}
    report = ChannelReport(
        used=used,
        renamed={label: name for name, label in used.items() if name.lower() not in label.lower()},
        missing=tuple(name for name in ch_names if name not in used),
        ignored=ignored,
        warnings=tuple(warnings),
    )
    return chosen, report


def _distinct(labels: Sequence[str]) -> list[str]:
    """Labels with a count after those that occur again, so that each is one key of the report."""
    return [
        f"{label} (#{labels[:i].count(label) + 1})" if label in labels[:i] else label for i, label in enumerate(labels)
    ]


def _unusable(channel: FileChannel) -> str | None:
    name = standard_name(channel.label)
    if name is not None and channel_kind(name) == "eeg" and channel.sfreq < MIN_EEG_SFREQ_HZ:
        return f"{float(channel.sfreq):g} Hz is too slow: IED analysis needs at least {MIN_EEG_SFREQ_HZ:g} Hz"
    return "it has no samples" if channel.sfreq == 0 else channel.problem


def _find(by_name: Mapping[str, int], name: str) -> int | None:
    wanted = standard_name(name) or name
    ears = [by_name[key] for ear in EARS if (key := f"{wanted}-{ear}") in by_name]
    return by_name.get(wanted, min(ears, default=None))


def _check_any(
    channels: Sequence[FileChannel],
    ch_names: Sequence[str],
    found: Mapping[str, int],
    ignored: Mapping[str, str],
    source: str,
) -> None:
    eeg = [name for name in ch_names if channel_kind(name) == "eeg"] or list(ch_names)
    if any(name in found for name in eeg):
        return
    by_reason: dict[str, list[str]] = {}
    for label in [c.label for c in channels if standard_name(c.label)] or [c.label for c in channels]:
        by_reason.setdefault(ignored.get(label, "not wanted"), []).append(label)
    said = (f"{', '.join(labels)} ({reason})" for reason, labels in by_reason.items())
    raise ValueError(
        f"{source} has none of the electrodes wanted ({' '.join(eeg)}) in usable form;"
        f" it has {'; '.join(said) or 'no signals'}"
    )


def _check_references(labels: Sequence[str], source: str) -> None:
    """Electrodes against different common references must not meet in one montage."""
    eeg = [label for label in labels if channel_kind(standard_name(label) or label) == "eeg"]
    named = {reference: label for label in eeg if (reference := common_reference(label))}
    if len(named) > 1:
        raise ValueError(
            f"{source} mixes common references among the channels wanted:"
            f" {', '.join(sorted(named.values()))}; a montage of them would be wrong"
        )


def _factor(channel: FileChannel, name: str, units: Mapping[str, str], source: str) -> float:
    given = next((units[key] for key in (channel.label, name, "*") if key in units), None)
    factor = unit_factor(channel.unit if given is None else given)
    if factor is not None:
        return factor
    what = f"the header's unit {channel.unit!r}" if given is None else f"the unit given, {given!r},"
    raise ValueError(
        f"{source}: {name} is needed (label {channel.label!r}), but {what} is no known unit of voltage;"
        f" say which it is, as in --units {name}=uV"
    )


def _warnings(channels: Sequence[FileChannel], chosen: Mapping[str, Chosen], units: Mapping[str, str]) -> list[str]:
    labels = {name: channels[one.index].label for name, one in chosen.items()}
    warnings = [f"{labels[name]}: {w}" for name, one in chosen.items() if (w := channels[one.index].warning)]
    megavolts = [
        label
        for name, label in labels.items()
        if channels[chosen[name].index].unit == "MV" and not {label, name, "*"} & set(units)
    ]
    if megavolts:
        warnings.append(f"the unit MV of {', '.join(megavolts)} is read as mV")
    ears = [f"{name} from {label}" for name, label in labels.items() if _is_stand_in(name, label)]
    if ears:
        warnings.append(f"taken from derivations, referenced to the ear: {', '.join(ears)}")
    return warnings


def _is_stand_in(name: str, label: str) -> bool:
    found = standard_name(label)
    return found is not None and found != (standard_name(name) or name)


def _why_not_asked(channel: FileChannel) -> str:
    if standard_name(channel.label) is None:
        return f"no known electrode (unit {channel.unit!r})"
    if unit_factor(channel.unit) is None:
        return f"not asked for, and {channel.unit!r} is no known unit of voltage"
    return "not asked for"


def without_implausible(
    chosen: Mapping[str, Chosen],
    report: ChannelReport,
    stretches: Iterable[Mapping[str, Float[np.ndarray, "_"]]],
    *,
    source: str,
) -> tuple[dict[str, Chosen], ChannelReport]:
    """The channels that carry a signal, and the report with warnings on amplitude.

    A channel that is constant in every stretch is absent. An EEG channel whose robust standard deviation
    (1.4826 times the median absolute deviation; the median over stretches) is outside 2 to 500 uV gets a
    warning with the factor that would mend it; nothing is scaled. Where no EEG was chosen, ECG is judged by its
    leads' median: single leads may be all but flat.

    Raises:
        ValueError: no EEG channel that was chosen carries a signal, or none at all.
    """
    spreads: dict[str, list[float]] = {name: [] for name in chosen}
    flat = dict.fromkeys(chosen, True)
    for stretch in stretches:
        for name, signal in stretch.items():
            if signal.min() != signal.max():
                flat[name] = False
                spreads[name].append(1.4826 * float(np.median(np.abs(signal - np.median(signal)))))
    dead = [name for name in chosen if flat[name]]
    alive = {name: one for name, one in chosen.items() if not flat[name]}
    if not alive or (_any_eeg(chosen) and not _any_eeg(alive)):
        kind = "EEG channel" if _any_eeg(chosen) else "channel"
        raise ValueError(f"{source}: every wanted {kind} is constant: {', '.join(dead)}")
    warnings = list(report.warnings)
    if dead:
        warnings.append(f"constant in every stretch sampled, taken as absent: {', '.join(dead)}")
    typical = {name: float(np.median(spreads[name])) for name in alive}
    eeg = {name: spread for name, spread in typical.items() if channel_kind(name) == "eeg"}
    ecg = [spread for name, spread in typical.items() if channel_kind(name) == "ecg"]
    if eeg:
        warnings += _amplitude_warnings(eeg, PLAUSIBLE_UV, "scalp EEG")
    elif ecg:
        warnings += _amplitude_warnings({"the leads' median": float(np.median(ecg))}, PLAUSIBLE_ECG_UV, "an ECG")
    return alive, dataclasses.replace(
        report,
        used={name: label for name, label in report.used.items() if name in alive},
        renamed={label: name for label, name in report.renamed.items() if name in alive},
        missing=(*report.missing, *dead),
        ignored={**report.ignored, **{report.used[name]: "constant" for name in dead}},
        warnings=tuple(warnings),
    )


def _any_eeg(names: Iterable[str]) -> bool:
    return any(channel_kind(name) == "eeg" for name in names)


def _amplitude_warnings(spreads: Mapping[str, float], plausible: tuple[float, float], what: str) -> list[str]:
    advice = "no factor of 1e3 or 1e6 would mend it"
    by_factor: dict[float | None, list[str]] = {}
    low, high = plausible
    for name, spread in spreads.items():
        if not low <= spread <= high:
            fits = (factor for factor in (1e3, 1e-3, 1e6, 1e-6) if low <= spread * factor <= high)
            by_factor.setdefault(next(fits, None), []).append(f"{name} ({spread:.3g} uV)")
    return [
        f"the robust standard deviation is not that of {what} ({low:g} to {high:g} uV):"
        f" {', '.join(said)}; {f'times {factor:g} it would be, is the unit right?' if factor else advice}"
        for factor, said in by_factor.items()
    ]
