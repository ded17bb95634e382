"""Datasets and pixels: columns, reading, sources, and whether two sets belong together."""
