"""Renders originals: bytes in, bytes out, independent of HTTP and of the store.

`pipeline.pictures` renders, `header` reads an original before any pixel is decoded, and `pool` runs both
in worker processes. Only this package imports pyvips.
"""
