"""Times to whole samples: every hop that a user can write, against exact fractions."""

from decimal import Decimal
from fractions import Fraction

import pytest

from siamese_jax.config.samples import exact, whole_samples


@pytest.mark.parametrize("sfreq", ["100", "128", "199.8", "200", "250", "256", "500", "512", "999.412", "1024"])
def test_every_hop_to_a_hundredth_of_a_second_is_whole_or_refused_as_fractions_are(sfreq):
    """In floats 73 of those that are whole at 200 or 500 Hz are not: 1.1 * 500 is 550.0000000000001."""
    for hundredths in range(1, 501):
        hop = str(Decimal(hundredths) / 100)
        samples = Fraction(hop) * Fraction(sfreq)
        if samples.denominator == 1:
            assert whole_samples(float(hop), float(sfreq), "the hop") == samples
        else:
            with pytest.raises(ValueError, match="is not a whole number of samples"):
                whole_samples(float(hop), float(sfreq), "the hop")


@pytest.mark.parametrize(
    ("seconds", "sfreq", "multiple", "nearest"),
    [
        (0.123, 100.0, 1, "0.12 s, 0.13 s"),
        (0.33, 200.0, 10, "0.3 s, 0.35 s"),
        (0.001, 200.0, 1, "0.005 s"),
        (0.005, 300.0, 1, "0.01 s"),  # 1 / 300 s cannot be written
        (7.0, 199.8, 1, "5 s, 10 s"),
        (-1.0, 200.0, 10, "0.05 s"),
        (float("nan"), 200.0, 1, "0.005 s"),
        (float("inf"), 200.0, 1, "0.005 s"),
    ],
)
def test_the_nearest_times_that_are_allowed_are_named_and_are_allowed(seconds, sfreq, multiple, nearest):
    with pytest.raises(ValueError) as refused:
        whole_samples(seconds, sfreq, "the hop", multiple=multiple)
    assert str(refused.value).startswith(f"the hop of {seconds} s is not a whole number of ")
    assert str(refused.value).endswith(f"the nearest that are: {nearest}")
    for time in nearest.replace(" s", "").split(", "):
        assert whole_samples(float(time), sfreq, "the hop", multiple=multiple) % multiple == 0


def test_a_number_is_the_decimal_that_was_written():
    assert exact(199.8) == Fraction(999, 5) and exact(3) == 3
    with pytest.raises(ValueError, match="finite"):
        exact(float("nan"))
    with pytest.raises(ValueError, match="the rate must be positive, given 0.0 Hz"):
        whole_samples(1.0, 0.0, "the hop")
