"""LCR2S (ACM MM 2023): the student, its teacher and the support sets."""
