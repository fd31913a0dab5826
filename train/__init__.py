"""Data sets, models, training, fine-tuning, evaluation, checkpoints."""
