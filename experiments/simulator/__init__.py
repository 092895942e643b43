"""Simulated EEG compared with real EEG: `python -m experiments.simulator DREAMS EEGLAB.edf`."""
