"""The command line: the only modules that know hydra.main and argparse."""
