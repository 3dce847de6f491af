"""Weights & Biases: its session, its logger, and runs that it kept offline."""
