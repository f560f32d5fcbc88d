"""Parses and matches invalidations: exact paths, path prefixes with a trailing `*`, and cache tags (`#tag`).

Source: the CloudFront Developer Guide, "Invalidate files to remove content".
"""

from __future__ import annotations

from typing import Self

from galerly_cdn.serialization import Value

MAX_TAGS = 50
"""The number of tags of one object that are read."""


class Invalidation(Value, frozen=True):
    """One invalidation: a lower-case tag, an exact path, or a path prefix. The other fields are empty."""

    tag: str = ""
    path: str = ""
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses a path or `#tag`: printable ASCII, everything else percent-encoded. Raises `ValueError`."""
        if not text or not text.isascii() or any(character <= " " for character in text):
            raise ValueError(f"{text!r} is not percent-encoded as in a URL")
        if text.startswith("#"):
            if len(text) == 1 or "*" in text:
                raise ValueError(f"{text!r} is not a tag")
            return cls(tag=text[1:].lower())
        path = text if text.startswith("/") else f"/{text}"
        if "*" in path[:-1]:
            raise ValueError(f"{text!r} has a * that is not at its end")
        return cls(prefix=path[:-1]) if path.endswith("*") else cls(path=path)

    def matches(self, path: str, tags: frozenset[str]) -> bool:
        """Whether an object with this path and these tags is invalidated."""
        if self.tag:
            return self.tag in tags
        return path.startswith(self.prefix) if self.prefix else path == self.path


def parse_tags(header: str) -> frozenset[str]:
    """The tags in a cache tag header: separated by commas, compared in lower case."""
    tags = [tag.strip().lower() for tag in header.split(",")]
    return frozenset([tag for tag in tags if tag][:MAX_TAGS])
