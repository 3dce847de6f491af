"""Lightning callbacks that evaluate, record and draw a run."""
