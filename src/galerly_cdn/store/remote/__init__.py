"""How is a remote store used: S3 and its like, Google Cloud Storage, Azure?

An original's version is the object's ETag. A rendition is an object whose metadata names what it was made
from. What is read is whole and unaltered, or it is not read at all.
"""

from __future__ import annotations

import atexit
import time

MD5 = "md5"
"""The name of the metadata that holds an original's or a rendition's MD5, in hex."""

_SETTLE_S = 0.05
# obstore's threads hand an answer over and only then let go of it. One that does so while Python is ending
# already aborts the process (pyo3-async-runtimes, issue 40): one in eight short runs; none with this.
atexit.register(time.sleep, _SETTLE_S)
