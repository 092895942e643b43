"""Do common diagnoses help rare ones? `python -m experiments.ecg`."""
