"""Engines: where the rows and vectors of an index are kept and compared."""
