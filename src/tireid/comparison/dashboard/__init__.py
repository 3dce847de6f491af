"""The comparison of methods as a report on wandb: its texts, panels and reference lines."""
