"""Writes Content-Disposition (RFC 6266): whether a browser shows or saves a response, and the file's name.

Pure. The edge and the store of renditions write the same header: S3 returns it for a stored rendition.
"""

from __future__ import annotations

import re
from urllib.parse import quote


def inline(key: str, extension: str) -> str:
    """For a rendition: shown; saved as the key's last segment with the extension of its format."""
    name = key.rpartition("/")[2]
    return _format("inline", f"{name.rpartition('.')[0] or name}.{extension}")


def attachment(key: str) -> str:
    """For an original: saved as the key's last segment."""
    return _format("attachment", key.rpartition("/")[2])


def _format(disposition: str, name: str) -> str:
    """The plain file name is ASCII without quotes and backslashes, so that nothing in it ends it early."""
    plain = re.sub(r"[^ !#-\[\]-~]|%", "_", name)
    value = f'{disposition}; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"
