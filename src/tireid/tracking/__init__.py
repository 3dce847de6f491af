"""Weights & Biases: its mode, and its logger."""
