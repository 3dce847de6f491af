"""Exact resume: a stopped run continues to the same weights and metrics, bit for bit.

`LastCheckpoint` (last_checkpoint) is the entry. Between two steps all ranks ask together (stopping)
whether a checkpoint is due (schedule) or a signal has come (stop_signals), and then write
`last.ckpt` atomically (`AtomicCheckpointIO`, over runs/checkpoint). Lightning saves weights,
optimisers, callbacks and loop counters. run_state adds what it leaves out: the RNG state of every
rank, the rows of `metrics.csv`, and counters that say exactly which step is done.

To resume, Lightning restores its part. `run_state.Resumption` restores the rest in three moments,
each time after Lightning has last touched it: on loading (the log), at the start of training (the
place in the epoch), at the first step (step counter and RNG state). training/resume decides which
run and which file.

best_checkpoint keeps the best weights while `last.ckpt` may still name them; finite_loss stops a
run before it writes weights that a NaN has reached.
"""
