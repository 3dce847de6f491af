"""LCR2S (ACM MM 2023): the student, its teacher and the support sets."""

from tireid.methods.lcr2s.student import Lcr2s
from tireid.methods.lcr2s.teacher import Lcr2sTeacher

__all__ = ["Lcr2s", "Lcr2sTeacher"]
