"""One training: compose, check, build, fit, resume and test, in one process or in many."""
