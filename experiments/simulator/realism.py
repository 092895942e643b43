"""How well simulated and real EEG can be told apart, and stages from one another: features and two classifiers.

The classifiers are the plainest there are (logistic regression, linear discriminant analysis), in NumPy and SciPy.
Whoever is tested is never trained on, nor any other window of theirs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer
from scipy import optimize, signal, stats

from experiments.simulator.measures import BANDS, band_power, slope, spectra
from siamese_jax.evaluation.metrics import auroc, cohen_kappa, confusion_matrix

LEVEL = (*(f"{name} power" for name in BANDS), "standard deviation", "line length", "peak")
"""Features that grow with the amplitude."""
SHAPE = (
    *(f"{name} share" for name in BANDS),
    *("slope", "line length / standard deviation", "Hjorth mobility", "Hjorth complexity", "zero crossings"),
    *("kurtosis", "skewness", "crest factor", "kurtosis of the difference", "power's unrest", "sigma burst"),
)
"""Features that do not."""
RECORDER = ("step of the values", "repeated values", "mains line", "0.5-1 Hz share", "30-48 Hz share")
"""What a recorder leaves in a signal: they distinguish recorders, not brains."""


def features(windows: Float[np.ndarray, "window time"], sfreq: float) -> dict[str, Float64[np.ndarray, "window"]]:
    """Every feature of LEVEL and SHAPE; powers, shares, deviations and line length as logarithms."""
    x = windows.astype(np.float64)
    x = x - x.mean(1, keepdims=True)
    spectrum = spectra(x, sfreq)
    powers = {name: band_power(spectrum, band) + 1e-6 for name, band in BANDS.items()}
    total = np.sum(list(powers.values()), axis=0)
    first, second = np.diff(x, axis=1), np.diff(x, n=2, axis=1)
    deviation = x.std(1) + 1e-6
    mobility = first.std(1) / deviation
    quarters = np.stack([part.std(1) for part in np.array_split(x, 4, axis=1)])
    sigma = signal.sosfiltfilt(signal.butter(3, BANDS["sigma"], "bandpass", fs=sfreq, output="sos"), x, axis=1)
    envelope = np.abs(np.asarray(signal.hilbert(sigma, axis=1)))
    return {
        **{f"{name} power": np.log(power) for name, power in powers.items()},
        "standard deviation": np.log(deviation),
        "line length": np.log(np.abs(first).mean(1) + 1e-6),
        "peak": np.log(np.abs(x).max(1) + 1e-6),
        **{f"{name} share": np.log(power / total) for name, power in powers.items()},
        "slope": slope(spectrum),
        "line length / standard deviation": np.log((np.abs(first).mean(1) + 1e-6) / deviation),
        "Hjorth mobility": mobility,
        "Hjorth complexity": second.std(1) / (first.std(1) + 1e-6) / (mobility + 1e-6),
        "zero crossings": (np.diff(np.signbit(x), axis=1) != 0).mean(1) * sfreq,
        "kurtosis": stats.kurtosis(x, axis=1),
        "skewness": stats.skew(x, axis=1),
        "crest factor": np.abs(x).max(1) / deviation,
        "kurtosis of the difference": stats.kurtosis(first, axis=1),
        "power's unrest": np.log(quarters + 1e-6).std(0),
        "sigma burst": np.log(envelope.max(1) / (np.median(envelope, axis=1) + 1e-6)),
    }


def recorder_features(
    windows: Float[np.ndarray, "window time"], sfreq: float
) -> dict[str, Float64[np.ndarray, "window"]]:
    """Every feature of RECORDER, of windows as they were recorded; the mains are looked for at 50 Hz."""
    x = windows.astype(np.float64)
    change = np.abs(np.diff(x, axis=1))
    spectrum = spectra(x, sfreq)
    total = band_power(spectrum, (0.5, 48.0)) + 1e-9
    beside = band_power(spectrum, (46.0, 49.0)) + band_power(spectrum, (51.0, 54.0)) + 1e-9
    return {
        "step of the values": np.log10(np.where(change > 1e-4, change, np.inf).min(1)),  # coarser than float32
        "repeated values": (change <= 1e-4).mean(1),
        "mains line": np.log(3 * band_power(spectrum, (49.0, 51.0)) / beside + 1e-9),
        "0.5-1 Hz share": np.log(band_power(spectrum, (0.5, 1.0)) / total + 1e-9),
        "30-48 Hz share": np.log(band_power(spectrum, (30.0, 48.0)) / total + 1e-9),
    }


class Windows(NamedTuple):
    """Windows of many people, simulated or real."""

    features: Float64[np.ndarray, "window feature"]
    is_real: Bool[np.ndarray, "window"]
    stage: Integer[np.ndarray, "window"]
    person: Integer[np.ndarray, "window"]

    def of(self, people: Sequence[int]) -> "Windows":
        """The windows of these people."""
        inside = np.isin(self.person, people)
        return Windows(*(values[inside] for values in self))

    def people(self, *, real: bool) -> list[int]:
        """Who is real, or simulated, by number."""
        return sorted(set(self.person[self.is_real == real].tolist()))


def matched_weights(windows: Windows) -> Float64[np.ndarray, "window"]:
    """Weights that give both sides the same stages: the real ones' shares; people count alike within a stage.

    A stage that one side lacks counts 0. The weights of each side add up to 1.
    """
    weights = np.zeros(len(windows.stage))
    for stage in set(windows.stage.tolist()):
        here = windows.stage == stage
        if not (here & windows.is_real).any() or not (here & ~windows.is_real).any():
            continue
        share = (here & windows.is_real).sum()
        for side in (windows.is_real, ~windows.is_real):
            people, counts = np.unique(windows.person[here & side], return_counts=True)
            for person, n in zip(people, counts, strict=True):
                weights[here & side & (windows.person == person)] = share / len(people) / n
    return weights * 2 / weights.sum() if weights.any() else weights


def matched_auroc(scores: Float64[np.ndarray, "window"], windows: Windows) -> float:
    """P(a real window scores above a simulated one of the same stage), stages in the real ones' shares."""
    weights, found = matched_weights(windows), []
    for stage in set(windows.stage.tolist()):
        here = (windows.stage == stage) & (weights > 0)
        if here.any():
            value = auroc(scores[here], windows.is_real[here].astype(np.float64), weights=weights[here])
            found.append((value, weights[here].sum()))
    values, shares = np.array(found).T if found else (np.array([np.nan]), np.ones(1))
    return float((values * shares).sum() / shares.sum())


def fit_logistic(
    x: Float64[np.ndarray, "window feature"],
    y: Bool[np.ndarray, "window"],
    weights: Float64[np.ndarray, "window"],
    *,
    penalty: float = 1e-3,
) -> Float64[np.ndarray, "feature"]:
    """Coefficients (the intercept last) of a logistic regression with a squared penalty on standardised features."""

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = x @ beta[:-1] + beta[-1]
        error = weights * (1 / (1 + np.exp(-np.clip(margin, -500, 500))) - y)
        value = weights @ (np.logaddexp(0, margin) - y * margin) + penalty * beta[:-1] @ beta[:-1]
        return value, np.append(x.T @ error + 2 * penalty * beta[:-1], error.sum())

    return optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x


def told_apart(windows: Windows) -> list[float]:
    """AUROC of a logistic regression on real people it has not seen, against simulated ones it has not seen either.

    One value for each real person; the simulated ones are assigned to the folds in turn. NaN where those who are
    trained on, or tested, have no stage that both sides know.
    """
    real, simulated = windows.people(real=True), windows.people(real=False)
    found = []
    for i, person in enumerate(real):
        tested = [person, *simulated[i :: len(real)]]
        train, test = windows.of([p for p in real + simulated if p not in tested]), windows.of(tested)
        weights = matched_weights(train)
        if not weights.any():
            found.append(float("nan"))
            continue
        mean = np.average(train.features, axis=0, weights=weights)
        scale = np.sqrt(np.average((train.features - mean) ** 2, axis=0, weights=weights)) + 1e-9
        beta = fit_logistic((train.features - mean) / scale, train.is_real, weights)
        found.append(matched_auroc(((test.features - mean) / scale) @ beta[:-1], test))
    return found


def without_difference(windows: Windows, n_real: int, n_draws: int, rng: np.random.Generator) -> list[Windows]:
    """What `n_real` real people would look like if they were simulated ones: the same windows, other labels.

    The stages of the real people are not imposed on them, so a stage may be missing in some.
    """
    simulated = windows.people(real=False)
    only = windows.of(simulated)
    drawn = (rng.choice(simulated, size=n_real, replace=False) for _ in range(n_draws))
    return [only._replace(is_real=np.isin(only.person, who)) for who in drawn]


# --- stages ----------------------------------------------------------------------------------------------------


def discriminant(
    x: Float64[np.ndarray, "epoch feature"],
    stage: Integer[np.ndarray, "epoch"],
    tested: Float64[np.ndarray, "test feature"],
) -> Integer[np.ndarray, "test"]:
    """Stages found by linear discriminant analysis: one covariance for all, shrunk a little, priors as trained."""
    classes, counts = np.unique(stage, return_counts=True)
    means = np.stack([x[stage == c].mean(0) for c in classes])
    residual = x - means[np.searchsorted(classes, stage)]
    covariance = residual.T @ residual / max(len(x) - len(classes), 1)
    covariance += 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, means.T)
    score = tested @ weights - 0.5 * (means.T * weights).sum(0) + np.log(counts / counts.sum())
    return classes[score.argmax(1)]


class Epochs(NamedTuple):
    """30-s epochs of one person."""

    features: Float64[np.ndarray, "epoch feature"]
    stage: Integer[np.ndarray, "epoch"]


def left_out(
    people: Sequence[Epochs], tested: Sequence[int], *, n_train: int | None, rng: np.random.Generator
) -> list[Float64[np.ndarray, "class class"]]:
    """Confusion (true, found) of each person in `tested`, trained on `n_train` others drawn by chance (None: all)."""
    matrices = []
    for i in tested:
        others = [j for j in range(len(people)) if j != i]
        chosen = others if n_train is None else rng.choice(others, size=n_train, replace=False).tolist()
        x = np.concatenate([people[j].features for j in chosen])
        y = np.concatenate([people[j].stage for j in chosen])
        found = discriminant(x, y, people[i].features)
        matrices.append(confusion_matrix(found, people[i].stage, n_classes=5))
    return matrices


def within_person(own: Epochs, *, block: int = 5) -> float:
    """Kappa when trained and tested on the same person: blocks of epochs (2.5 min) of odd and even number in turn.

    Differences between people play no part here: what is left is how much the stages themselves overlap.
    """
    is_odd = (np.arange(len(own.stage)) // block) % 2 == 1
    if is_odd.all() or not is_odd.any():
        return float("nan")
    matrices = []
    for tested in (is_odd, ~is_odd):
        found = discriminant(own.features[~tested], own.stage[~tested], own.features[tested])
        matrices.append(confusion_matrix(found, own.stage[tested], n_classes=5))
    return kappa(matrices)


def kappa(matrices: Sequence[Float64[np.ndarray, "class class"]]) -> float:
    """Cohen's kappa of all epochs together."""
    return cohen_kappa(np.sum(matrices, axis=0))
