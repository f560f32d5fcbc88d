"""A sample gallery, painted from nothing: photograph-like pictures to serve, measure and test with.

A development tool, not part of the package: `python -m samples OUT` makes it, `SAMPLES` is the table.
"""

from samples.gallery import SAMPLES, Sample, make

__all__ = ["SAMPLES", "Sample", "make"]
