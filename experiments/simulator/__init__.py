"""Simulated EEG held against real EEG: `python -m experiments.simulator DREAMS EEGLAB.edf`."""
