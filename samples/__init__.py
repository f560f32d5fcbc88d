"""Generates a sample gallery of photograph-like pictures, for benchmarks and tests.

This is a development tool and not part of the package. `python -m samples OUT` generates the pictures in the
table `SAMPLES`.
"""

from samples.gallery import SAMPLES, Sample, make

__all__ = ["SAMPLES", "Sample", "make"]
