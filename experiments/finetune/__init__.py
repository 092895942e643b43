"""Fine-tuning from simulated to real EEG: `python -m experiments.finetune`."""
