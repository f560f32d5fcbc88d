"""Reads what the loaders of libvips leave out or read wrongly in originals."""
