"""LGUR (ACM MM 2022): the method, its head and the official checkpoints."""
