"""Seconds to samples, exactly: a time that is no whole number of samples is refused, never rounded.

Imports the standard library only.
"""

import math
from fractions import Fraction


def exact(number: float) -> Fraction:
    """A number as the decimal that was written: 199.8 is 999 / 5, not the float nearest to it.

    Raises:
        ValueError: it is not finite.
    """
    if not math.isfinite(number):
        raise ValueError(f"a finite number is needed, given {number}")
    return Fraction(str(number))


def whole_samples(seconds: float, sfreq: float, what: str, *, multiple: int = 1) -> int:
    """How many samples a time is: one or more, and nothing left over.

    Args:
        seconds: the time.
        sfreq: samples per second.
        what: what the time is, for the message: `the hop`.
        multiple: of how many samples it must be a multiple.

    Raises:
        ValueError: it is not; the nearest times that are stand in the message.
    """
    rate = exact(sfreq)
    if rate <= 0:
        raise ValueError(f"the rate must be positive, given {sfreq} Hz")
    samples = exact(seconds) * rate if math.isfinite(seconds) else Fraction(0)
    if samples >= 1 and samples % multiple == 0:
        return int(samples)
    unit = "samples" if multiple == 1 else f"steps of {multiple} samples"
    raise ValueError(
        f"{what} of {seconds} s is not a whole number of {unit} at {sfreq:g} Hz:"
        f" the nearest that are: {' s, '.join(_nearest(samples, rate, multiple))} s"
    )


def _nearest(samples: Fraction, rate: Fraction, multiple: int) -> list[str]:
    """The times just below and above that can be written as a decimal."""
    awkward = rate.numerator
    for prime in (2, 5):
        while awkward % prime == 0:
            awkward //= prime
    step = math.lcm(multiple, awkward)
    below = max(samples, Fraction(0)) // step * step
    return [f"{float(n / rate):.12g}" for n in (below, below + step) if n > 0]
