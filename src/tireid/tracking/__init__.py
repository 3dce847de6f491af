"""Weights & Biases: its mode, its logger, and runs that it stored offline."""
