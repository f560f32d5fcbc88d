"""What a browser does with a response, and what a saved file is called: `Content-Disposition` (RFC 6266)."""

from __future__ import annotations

import re
from urllib.parse import quote


def inline(key: str, extension: str) -> str:
    """Of a rendition: shown, and saved as the key's last segment with the extension of the bytes."""
    name = key.rpartition("/")[2]
    return _spelt("inline", f"{name.rpartition('.')[0] or name}.{extension}")


def attachment(key: str) -> str:
    """Of an original: saved, as the key's last segment."""
    return _spelt("attachment", key.rpartition("/")[2])


def _spelt(kind: str, name: str) -> str:
    """The plain name is ASCII without quotes or backslashes, so that nothing can end it early."""
    plain = re.sub(r"[^ !#-\[\]-~]|%", "_", name)
    told = f'{kind}; filename="{plain}"'
    return told if plain == name else f"{told}; filename*=UTF-8''{quote(name, safe='')}"
