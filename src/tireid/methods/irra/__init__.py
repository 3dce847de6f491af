"""IRRA (CVPR 2023): the method, its relation reasoning and the official checkpoints."""

from tireid.methods.irra.method import Irra

__all__ = ["Irra"]
