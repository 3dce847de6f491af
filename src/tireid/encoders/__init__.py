"""Image and text encoders; each returns `Tokens`, so methods do not care which one it is."""
