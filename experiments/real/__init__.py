"""Any detector on real recordings: periodic discharges against rhythmic delta, spikes, healthy people."""

from experiments.real.figures import evaluate_scorers

__all__ = ["evaluate_scorers"]
