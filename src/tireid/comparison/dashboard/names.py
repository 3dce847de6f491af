"""What runs log, by the names that panels ask for; metrics are in `tireid.metrics.names`."""

# Histories, over optimiser steps.
STEP = "trainer/global_step"
LOSS = "train/loss"
LOSS_TERMS = "^train/loss_"
GRADIENT_SHARES = "^train/gradient_share_"

# Summary values, with what an axis says of them.
COST = {
    "cost/train_seconds": "training, seconds",
    "cost/images_per_second": "training, images a second",
    "cost/peak_memory_mib": "peak memory, MiB",
    "cost/parameters_million": "parameters, millions",
}

# A table: best hits, worst misses and queries drawn at random, with what was found.
QUERIES = "queries"
# Pictures.
GALLERY = "gallery_test"
SIMILARITIES = "similarity/spread"

# What runs log only if they were asked to, with a filter of the runs that did.
OPTIONAL = {
    GALLERY: {f"summary_metrics.{GALLERY}": {"$exists": True}},
    GRADIENT_SHARES: {"config.model/gradient_share_steps": {"$gt": 0}},
}

# Settings: the row of a run in a table, its seed, and what the seeds of one row agree in.
LABEL = "label"
SEED = "seed"
METHOD = (LABEL, "encoders", "selection", "settings")
