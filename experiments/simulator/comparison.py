"""The comparisons behind the page, each a tree of figures; nothing is drawn here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import signal

from experiments.simulator import realism
from experiments.simulator.data import Night, at_rate, not_clipped
from experiments.simulator.measures import (
    BANDS,
    FIELD_BANDS,
    WINDOW_SECONDS,
    Spectrum,
    angles,
    band_power,
    by_distance,
    channel_features,
    correlation,
    cut,
    decibels,
    measure_burst,
    power_field,
    pure_windows,
    slope,
    slow_wave_share,
    spectra,
    typical,
)
from experiments.simulator.realism import LEVEL, RECORDER, SHAPE, Epochs, Windows
from siamese_jax.vocabulary import STAGES

COMMON_HZ = 100.0
"""Rate of features and stages: the slowest at which all recorders' bands are whole."""
FEATURE_BAND_HZ = (1.0, 30.0)
"""What features see: the recorders' own filters act below and above."""
LEAST_WINDOWS = 8
"""A stage of which somebody has fewer windows (of 4 s) is not compared for them."""
MOST_WINDOWS = 150
"""No more of a person's windows of a stage are used for telling simulated from real."""
DISTANCE_DEGREES = (0, 35, 55, 75, 95, 125, 181)
QUANTILES = (10, 50, 90)


# --- 1: spectra ------------------------------------------------------------------------------------------------


def stage_spectra(night: Night) -> dict[str, Spectrum]:
    """The typical spectrum of each stage of which there is enough."""
    stages, found = not_clipped(night), {}
    for i, stage in enumerate(STAGES):
        windows = pure_windows(stages, i)
        if len(windows) >= LEAST_WINDOWS:
            found[stage] = typical(spectra(cut(night.eeg_uv, night.sfreq, windows), night.sfreq))
    return found


def compare_spectra(simulated: Mapping[str, Sequence[Night]], real: Sequence[Night]) -> dict[str, Any]:
    """Spectra by stage; `simulated` by derivation.

    The difference of a real person to the simulated median of the same derivation is parted into level (its mean
    over the bands) and shape (what is left in each band).
    """
    sims = {ch_name: [stage_spectra(night) for night in nights] for ch_name, nights in simulated.items()}
    tree: dict[str, Any] = {"simulated": {}, "real": {}}
    for ch_name, found in sims.items():
        tree["simulated"][ch_name] = {s: _spread_of([f[s] for f in found if s in f]) for s in STAGES}
    for night in real:
        own = {}
        for stage, spectrum in stage_spectra(night).items():
            others = [f[stage] for f in sims[night.ch_name] if stage in f]
            own[stage] = _difference(spectrum, others, night.sfreq)
        tree["real"][night.name] = {"ch_name": night.ch_name, "sfreq": night.sfreq, "stages": own}
    return tree


def _spread_of(found: Sequence[Spectrum]) -> dict[str, Any]:
    if not found:
        return {"n": 0}
    psd = decibels(np.stack([spectrum.psd for spectrum in found]))
    low, median, high = np.percentile(psd, QUANTILES, axis=0).tolist()
    slopes = np.percentile([slope(spectrum) for spectrum in found], QUANTILES).tolist()
    return {"n": len(found), "low": low, "median": median, "high": high, "slope": slopes}


def _difference(spectrum: Spectrum, others: Sequence[Spectrum], sfreq: float) -> dict[str, Any]:
    tree: dict[str, Any] = {"psd": decibels(np.maximum(spectrum.psd, 1e-12)).tolist(), "slope": float(slope(spectrum))}
    bands = {name: band for name, band in BANDS.items() if band[1] <= 0.45 * sfreq}
    if not others:
        return tree
    theirs = {name: decibels(np.array([band_power(o, band) for o in others])) for name, band in bands.items()}
    own = {name: float(decibels(band_power(spectrum, band))) for name, band in bands.items()}
    median = {name: float(np.median(values)) for name, values in theirs.items()}
    difference = {name: own[name] - median[name] for name in bands}
    level = float(np.mean(list(difference.values())))
    tree |= {
        "difference_db": difference,
        "level_db": level,
        "shape_db": {name: value - level for name, value in difference.items()},
        "within_10_90": {
            name: bool(np.percentile(values, 10) <= own[name] <= np.percentile(values, 90))
            for name, values in theirs.items()
        },
    }
    return tree


# --- 2: spindles and slow waves --------------------------------------------------------------------------------


def compare_spindles(simulated: Mapping[str, Sequence[Night]], real: Sequence[Night]) -> dict[str, Any]:
    """Spindles of N2 as marked: frequency, amplitude, duration, how many a minute; one row for each who marked."""
    rows: dict[str, Any] = {}
    for ch_name, nights in simulated.items():
        own = [spindles_of(night, "simulator") for night in nights]
        rows[f"simulated, {ch_name}"] = _pooled(own) | {"is_real": False, "people": len(own)}
    for night in real:
        for who in night.spindles:
            rows[f"{night.name}, {who}"] = _pooled([spindles_of(night, who)]) | {"is_real": True, "people": 1}
    return rows


def spindles_of(night: Night, who: str) -> dict[str, Any]:
    """What somebody marked in a person's N2, measured; marks without a duration are taken to be of 1 s."""
    marks = [m for m in night.spindles[who] if int(m[0]) < len(night.stages) and night.stages[int(m[0])] == 2]
    bursts = [measure_burst(night.eeg_uv, night.sfreq, onset, length or 1.0) for onset, length in marks]
    bursts = [burst for burst in bursts if burst is not None]
    minutes = float((night.stages == 2).sum()) / 60
    return {
        "hz": [burst.peak_hz for burst in bursts],
        "amplitude_uv": [burst.amplitude_uv for burst in bursts],
        "seconds": [burst.seconds for burst in bursts],
        "marked_seconds": [length for _, length in marks if length],
        "per_minute": len(marks) / minutes if minutes else float("nan"),
    }


def _pooled(people: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("hz", "amplitude_uv", "seconds", "marked_seconds")
    row: dict[str, Any] = {"n": sum(len(person["hz"]) for person in people)}
    for name in names:
        values = [value for person in people for value in person[name]]
        row[name] = np.percentile(values, QUANTILES).tolist() if values else None
    spread = [float(np.std(person["hz"])) for person in people if len(person["hz"]) > 4]
    row["hz_spread_within_person"] = float(np.median(spread)) if spread else None
    density = [person["per_minute"] for person in people if np.isfinite(person["per_minute"])]
    row["per_minute"] = np.percentile(density, QUANTILES).tolist() if density else None
    return row


def compare_slow_waves(simulated: Mapping[str, Sequence[Night]], real: Sequence[Night]) -> dict[str, Any]:
    """Share of each stage that lies in slow waves of more than 75 uV from peak to peak: AASM asks for 20 % in N3."""
    rows = {}
    for ch_name, nights in simulated.items():
        shares = [slow_wave_shares(night) for night in nights]
        by_stage = {stage: [own[stage] for own in shares if stage in own] for stage in STAGES}
        rows[f"simulated, {ch_name}"] = {
            stage: np.percentile(values, QUANTILES).tolist() for stage, values in by_stage.items() if values
        }
    return rows | {night.name: slow_wave_shares(night) for night in real}


def slow_wave_shares(night: Night) -> dict[str, float]:
    """By stage, of one person."""
    seconds = slow_wave_share(night.eeg_uv, night.sfreq)[: len(night.stages)]
    stages = night.stages[: len(seconds)]
    enough = LEAST_WINDOWS * 4
    return {s: float(seconds[stages == i].mean()) for i, s in enumerate(STAGES) if (stages == i).sum() >= enough}


# --- 4: electrodes ---------------------------------------------------------------------------------------------


def compare_fields(
    simulated: Sequence[Float[np.ndarray, "_ chan"]],
    real: Float[np.ndarray, "time chan"],
    sfreq: float,
    ch_names: Sequence[str],
) -> dict[str, Any]:
    """Correlation by distance and field of power in bands, in wakefulness, against the average of the electrodes."""
    degrees = angles(ch_names)
    tree: dict[str, Any] = {"ch_names": list(ch_names), "edges_degrees": list(DISTANCE_DEGREES), "bands": {}}
    for name, band in FIELD_BANDS.items():
        one = {}
        for what, own in (
            ("correlation", lambda x, band=band: by_distance(correlation(x, sfreq, band), degrees, DISTANCE_DEGREES)),
            ("field_db", lambda x, band=band: power_field(x, sfreq, band)),
        ):
            values = np.stack([own(eeg) for eeg in simulated])
            low, median, high = np.percentile(values, QUANTILES, axis=0).tolist()
            one[what] = {"real": own(real).tolist(), "low": low, "median": median, "high": high}
        tree["bands"][name] = one
    mine = channel_features(real, sfreq)
    theirs = [channel_features(eeg, sfreq) for eeg in simulated]
    tree["several_channels"] = {
        name: {
            "real": float(np.median(values)),
            "simulated": np.percentile([np.median(one[name]) for one in theirs], QUANTILES).tolist(),
            "auroc": realism.auroc(
                np.concatenate([values, *(one[name] for one in theirs)]),
                np.concatenate([np.ones(len(values)), *(np.zeros(len(one[name])) for one in theirs)]),
            ),
        }
        for name, values in mine.items()
    }
    return tree


# --- 5: stages -------------------------------------------------------------------------------------------------


def epochs_of(night: Night) -> Epochs:
    """Log band powers of 30-s epochs (median over 4-s windows) and the stage at their centre."""
    night = at_rate(night, COMMON_HZ)
    features, stages = [], []
    for first in range(0, len(night.stages) - 29, 30):
        stage = int(night.stages[first + 15])
        if stage >= 0:
            spectrum = typical(spectra(cut(night.eeg_uv, COMMON_HZ, np.arange(first, first + 27, 4)), COMMON_HZ))
            features.append([np.log(band_power(spectrum, band) + 1e-6) for band in BANDS.values()])
            stages.append(stage)
    return Epochs(np.array(features, np.float64).reshape(-1, len(BANDS)), np.array(stages, int))


def compare_stages(
    simulated: Sequence[Epochs], real: Sequence[Epochs], tested: Sequence[int], *, draws: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Kappa of stages found by LDA in people left out; `tested` are the real ones that are reported.

    The simulated people are cut to the real ones' number, epochs and stages, `draws` times: kappa depends on all three.
    """
    shares = np.bincount(np.concatenate([own.stage for own in real]), minlength=len(STAGES)) / len(real)
    matched = []
    for _ in range(draws):
        cut_down = [_with_stages(own, shares, rng) for own in simulated]
        matched.append(
            realism.left_out(cut_down, range(len(cut_down)), n_train=min(len(real), len(cut_down)) - 1, rng=rng)
        )
    everyone = realism.left_out(simulated, range(len(simulated)), n_train=None, rng=rng)
    of_real = realism.left_out(real, tested, n_train=None, rng=rng)
    return {
        "real": realism.kappa(of_real),
        "real_by_person": [realism.kappa([matrix]) for matrix in of_real],
        "real_confusion": np.sum(of_real, axis=0).tolist(),
        "simulated_matched": _quantiles([realism.kappa(one) for one in matched]),
        "simulated_matched_by_person": _quantiles([realism.kappa([matrix]) for one in matched for matrix in one]),
        "simulated_all": realism.kappa(everyone),
        "simulated_confusion": np.sum(everyone, axis=0).tolist(),
        "real_within_person": [realism.within_person(real[i]) for i in tested],
        "simulated_within_person": _quantiles([realism.within_person(own) for own in simulated]),
        "epochs_of_a_real_person": shares.tolist(),
    }


def _quantiles(values: Sequence[float], quantiles: tuple[int, ...] = QUANTILES) -> list[float]:
    """Of those values that are defined."""
    defined = [value for value in values if np.isfinite(value)]
    return np.percentile(defined, quantiles).tolist() if defined else [float("nan")] * len(quantiles)


def compare_unrest(simulated: Sequence[Night], real: Sequence[Night]) -> dict[str, Any]:
    """How much power changes within a stage: SD of band power in dB over windows, and correlation of neighbours."""
    theirs = [unrest_of(night) for night in simulated]
    rows: dict[str, Any] = {}
    for stage in STAGES:
        found = [own[stage] for own in theirs if stage in own]
        if found:
            spread = {band: np.percentile([one[band] for one in found], QUANTILES, axis=0).T.tolist() for band in BANDS}
            rows[stage] = {"simulated": spread, "real": {}}
    for night in real:
        for stage, own in unrest_of(night).items():
            rows.setdefault(stage, {"simulated": {}, "real": {}})["real"][night.name] = own
    return rows


def unrest_of(night: Night) -> dict[str, dict[str, list[float]]]:
    """By stage and band: SD in dB, correlation of neighbouring windows. Stages of five minutes at least."""
    stages, found = not_clipped(night), {}
    bands = {name: band for name, band in BANDS.items() if band[1] <= 0.45 * night.sfreq}
    for i, stage in enumerate(STAGES):
        seconds = pure_windows(stages, i)
        if len(seconds) * WINDOW_SECONDS < 300:
            continue
        spectrum = spectra(cut(night.eeg_uv, night.sfreq, seconds), night.sfreq)
        power = {name: decibels(band_power(spectrum, band) + 1e-9) for name, band in bands.items()}
        next_to = np.flatnonzero(np.diff(seconds) == WINDOW_SECONDS)
        found[stage] = {
            name: [float(own.std()), float(np.corrcoef(own[next_to], own[next_to + 1])[0, 1])]
            for name, own in power.items()
        }
    return found


def _with_stages(own: Epochs, counts: Float[np.ndarray, "class"], rng: np.random.Generator) -> Epochs:
    """So many epochs of each stage, as far as there are."""
    chosen = [rng.permutation(np.flatnonzero(own.stage == i))[: round(n)] for i, n in enumerate(counts.tolist())]
    kept = np.sort(np.concatenate(chosen))
    return Epochs(own.features[kept], own.stage[kept])


# --- 6: telling them apart -------------------------------------------------------------------------------------


def windows_of(people: Sequence[Night], rng: np.random.Generator, *, recorder: bool = False) -> Windows:
    """Features of people's windows by stage, in the band of all recorders; or, unfiltered, what recorders leave."""
    rows = []
    for i, night in enumerate(people):
        rate = night.sfreq if recorder else COMMON_HZ
        stages, eeg = not_clipped(night), at_rate(night, rate).eeg_uv
        if not recorder:
            eeg = signal.sosfiltfilt(
                signal.butter(4, FEATURE_BAND_HZ, "bandpass", fs=rate, output="sos"), eeg.astype(np.float64)
            )
        for stage in range(len(STAGES)):
            seconds = rng.permutation(pure_windows(stages, stage))[:MOST_WINDOWS]
            if len(seconds) < LEAST_WINDOWS:
                continue
            measured = (realism.recorder_features if recorder else realism.features)(cut(eeg, rate, seconds), rate)
            n = len(seconds)
            columns = np.stack([measured[name] for name in (RECORDER if recorder else LEVEL + SHAPE)], axis=1)
            rows.append((columns, np.full(n, night.is_real), np.full(n, stage), np.full(n, i)))
    return Windows(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def tell_apart(windows: Windows, *, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """AUROC of each feature and of a logistic regression on all, on level only, on shape only.

    Beside each stands what simulated people give against other simulated people in place of the real ones.
    """
    names, real = LEVEL + SHAPE, windows.people(real=True)
    none = realism.without_difference(windows, len(real), draws, rng)
    single = {name: _single(windows, none, i) for i, name in enumerate(names)}
    combined = {}
    for what, columns in {"all": names, "level": LEVEL, "shape": SHAPE}.items():
        chosen = [names.index(name) for name in columns]
        kept = [w._replace(features=w.features[:, chosen]) for w in (windows, *none[: max(draws // 4, 1)])]
        own, *chance = [realism.told_apart(one) for one in kept]
        combined[what] = {
            "auroc": float(np.mean(own)),
            "by_person": own,
            "no_difference": _quantiles([float(np.mean(one)) for one in chance], (5, 50, 95)),
        }
    return {"single": single, "combined": combined, "windows": _counts(windows)}


def recorder_traces(windows: Windows) -> dict[str, Any]:
    """AUROC of what recorders leave."""
    return {name: _single(windows, [], i) for i, name in enumerate(RECORDER)}


def _single(windows: Windows, none: Sequence[Windows], column: int) -> dict[str, Any]:
    simulated = windows.people(real=False)
    persons = [windows.of([*simulated, person]) for person in windows.people(real=True)]
    chance = [abs(realism.matched_auroc(one.features[:, column], one) - 0.5) for one in none]
    return {
        "auroc": realism.matched_auroc(windows.features[:, column], windows),
        "by_person": [realism.matched_auroc(one.features[:, column], one) for one in persons],
        "no_difference": _quantiles(chance, (90,))[0],
    }


def _counts(windows: Windows) -> dict[str, dict[str, int]]:
    return {
        side: {
            stage: int(((windows.stage == i) & (windows.is_real == is_real)).sum()) for i, stage in enumerate(STAGES)
        }
        for side, is_real in (("simulated", False), ("real", True))
    }
