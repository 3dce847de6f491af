"""LGUR (ACM MM 2022): the method, its head and the official checkpoints."""

from tireid.methods.lgur.method import Lgur

__all__ = ["Lgur"]
