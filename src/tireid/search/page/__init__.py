"""A page that searches an index: a server on this machine, and what the browser gets."""
