"""The page that shows a folder's galleries, for trying things out: `/` and `/-/…`.

`page` answers; `collection` decides what is on which page; `catalog` remembers what is known of the
originals. jinja2 is imported in this folder only.
"""

from __future__ import annotations

from galerly_cdn.browse.page import Browse

__all__ = ["Browse"]
