"""Exact resume: checkpoints, RNG state, loop progress and stop signals as Lightning callbacks."""
