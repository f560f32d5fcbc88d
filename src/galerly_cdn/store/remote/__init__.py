"""Stores originals and renditions in S3-compatible stores, Google Cloud Storage and Azure.

An original's version is the object's ETag. A rendition is an object whose metadata is its record. Bytes that
are incomplete or altered are never returned.
"""

from __future__ import annotations

import atexit
import time

MD5 = "md5"
"""The name of the metadata entry that holds the MD5 of an original or a rendition, in hex."""

_EXIT_DELAY_S = 0.05
# obstore's threads release a result a moment after they have delivered it. A release during Python's shutdown
# aborts the process (pyo3-async-runtimes, issue 40): one in eight short runs; none with this delay.
atexit.register(time.sleep, _EXIT_DELAY_S)
