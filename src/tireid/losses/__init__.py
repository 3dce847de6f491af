"""Losses: pure functions, and thin classes that gather over processes. They own no weights."""
