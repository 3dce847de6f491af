"""Many trainings: grids of runs and the search for hyperparameters."""
