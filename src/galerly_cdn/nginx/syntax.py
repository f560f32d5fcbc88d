"""Writes nginx's configuration language: quoted words, maps, regular expressions. Pure.

Source: ngx_conf_read_token in nginx's src/core/ngx_conf_file.c; nginx.org, ngx_http_map_module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_./:*,=@%?&$-]+")
_REPLACED = re.compile(r"\\(?=[trn\"'\\]|\Z)|\"")
"""Where nginx would replace a backslash and the character after it, and the end of a word in quotes."""


def quoted(text: str) -> str:
    r"""The text as one word of the configuration; variables in it (`$name`) keep their meaning.

    In quotes nginx replaces `\t`, `\r`, `\n`, `\"`, `\'` and `\\`; it keeps every other backslash.
    """
    if _PLAIN.fullmatch(text):
        return text
    word = _REPLACED.sub(lambda found: "\\" + found[0], text).replace("\n", "\\n")
    return f'"{word}"'


def map_block(source: str, variable: str, rows: Iterable[tuple[str, str]], default: str = "") -> str:
    """A `map` of the variable by the source.

    A pattern that begins with `~` is a regular expression, `~*` one that ignores case; of several that match,
    the first one counts. Texts go before regular expressions.
    """
    lines = [f"    {quoted(pattern)} {quoted(value)};\n" for pattern, value in rows]
    head = f"map {quoted(source)} ${variable} {{\n    default {quoted(default)};\n"
    return f"{head}{''.join(lines)}}}\n"


def escaped(text: str) -> str:
    """A regular expression (PCRE, of bytes) that matches exactly the text."""
    return re.sub(r"([^A-Za-z0-9_/\x80-\U0010ffff])", r"\\\1", text)


def indented(text: str, levels: int = 1) -> str:
    """The text with each line moved to the right by so many levels; empty lines stay empty."""
    margin = "    " * levels
    return "".join(margin + line if line.strip() else line for line in text.splitlines(keepends=True))
