"""What does an invalidation mean? Paths, a trailing `*` for all that begins so, and `#tag`. Pure.

Source: the CloudFront Developer Guide, "Invalidate files to remove content".
"""

from __future__ import annotations

from typing import Self

from galerly_cdn.serialization import Value

MAX_TAGS = 50
"""Tags of one object that count."""


class Invalidation(Value, frozen=True):
    """One path or tag: a tag in small letters, an exact path, or the beginning of paths."""

    tag: str = ""
    path: str = ""
    prefix: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        """As an operator writes it: ASCII, the rest percent-encoded. Raises `ValueError`."""
        if not text or not text.isascii() or any(one <= " " for one in text):
            raise ValueError(f"{text!r} is not spelt as in an address")
        if text.startswith("#"):
            if len(text) == 1 or "*" in text:
                raise ValueError(f"{text!r} names no tag")
            return cls(tag=text[1:].lower())
        path = text if text.startswith("/") else f"/{text}"
        if "*" in path[:-1]:
            raise ValueError(f"{text!r} has a * that is not its end")
        return cls(prefix=path[:-1]) if path.endswith("*") else cls(path=path)

    def concerns(self, path: str, tags: frozenset[str]) -> bool:
        """Whether an object under this path with these tags is to go."""
        if self.tag:
            return self.tag in tags
        return path.startswith(self.prefix) if self.prefix else path == self.path


def read_tags(header: str) -> frozenset[str]:
    """An object's tags, of the header that has them: separated by commas, case does not count."""
    found = [one.strip().lower() for one in header.split(",")]
    return frozenset([one for one in found if one][:MAX_TAGS])
