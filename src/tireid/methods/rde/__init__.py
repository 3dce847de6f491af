"""RDE: a robust dual embedding, trained on the pairs that it trusts (CVPR 2024)."""

from tireid.methods.rde.method import Rde

__all__ = ["Rde"]
