"""Bytes to bytes: an original in, its renditions out. Knows neither HTTP nor the store.

`pipeline.pictures` is the whole; `header` reads an original before any pixel is decoded; `workers`
runs both in processes of their own. pyvips is imported in this folder only.
"""
