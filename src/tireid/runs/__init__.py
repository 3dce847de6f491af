"""A run folder as data: what a training leaves, read and written without Lightning or Hydra."""
