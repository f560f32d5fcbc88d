"""Write the pages that are made from the code: `python docs/generate.py`. A test tells when to."""  # noqa: INP001 - a script

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from galerly_cdn import cli
from galerly_cdn.errors import CommandError, Disconnected, NoSuchOriginal, by_code
from galerly_cdn.http import responses
from galerly_cdn.render.losses import LOSSES
from galerly_cdn.settings.table import DESCRIBED, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.errors import GalerlyError
    from galerly_cdn.serialization import FieldDescription

MADE = "<!-- Made by docs/generate.py: do not edit. -->\n"
COLUMNS = 100
UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))

SETTINGS = f"""{MADE}
# Settings

A setting comes from the command line (`--port`, where a command has the option), else from the environment
(`GALERLY_PORT`), else from a TOML file named by `--config` or `GALERLY_CONFIG` (`port = 8080`); else it has
its default.
`galerly-cdn config` shows every value and where it came from; what it prints is a settings file.
An unknown or impossible setting refuses to start, with one line that names it. Names end in their unit.

| setting | default | takes | what it is |
|---|---|---|---|
"""
SIZES = """
## Sizes

One line for every size of the allow-list: its name (it may be left out), its box, and the quality of every
format it offers. In the environment the lines are separated by `;`. The default:

```toml
"""
CLI = f"""{MADE}
# Commands

Exit codes: 0 done, 1 it failed, 2 it was asked for wrongly. Errors are lines on stderr.
"""
ERRORS = f"""{MADE}
# Status codes and errors

A picture is answered with 200, 206 (one range) or 304. Everything else is one JSON shape; `code` is stable,
`message` is for people, and `request_id` finds the request in the access log, which alone holds the details:

```json
%s
```

| status | code | message | kept by caches |
|---|---|---|---|
"""
LOST = f"""{MADE}
# What a rendition loses

Recorded with every rendition, shown by the page and by `galerly-cdn inspect`, and sent as `Galerly-Lost`
where the setting `lost_header` is on.

| word | what is lost |
|---|---|
"""


def settings() -> str:
    """The settings' table, and the allow-list as a file holds it."""
    rows = "".join(
        f"| `{one.name}` | {_default(one)} | {_takes(one.type)} | {one.description} |\n" for one in DESCRIBED
    )
    lines = "".join(f"    {json.dumps(line)},\n" for line in Settings().sizes)
    return f"{SETTINGS}{rows}{SIZES}sizes = [\n{lines}]\n```\n"


def _default(setting: FieldDescription) -> str:
    value = setting.default
    if setting.name == "sizes":
        return "[see below](#sizes)"
    if setting.name.endswith("_bytes"):
        unit, factor = next((unit, factor) for unit, factor in UNITS if value % factor == 0)
        return f"`{value}` ({value // factor} {unit})"
    return f"`{json.dumps(value)}`"


def _takes(kind: Any) -> str:  # noqa: ANN401 - a type, annotated or not
    """A setting's type and bounds, in words."""
    plain, *bounds = get_args(kind) if hasattr(kind, "__metadata__") else (kind,)
    told = {"int": "integer", "float": "number", "bool": "true, false", "str": "text"}.get(
        plain.__name__, "list"
    )
    low = next((f" ≥ {one.ge}" for one in bounds if one.ge is not None), "")
    low = next((f" > {one.gt:g}" for one in bounds if one.gt is not None), low)
    high = next((f" ≤ {one.le}" for one in bounds if one.le is not None and one.le < 2**53 - 1), "")
    return told + low + (f",{high}" if low and high else high)


def commands() -> str:
    """`--help` of every command."""
    main = click.Context(
        cli.main, info_name="galerly-cdn", terminal_width=COLUMNS, **cli.main.context_settings
    )
    return CLI + "".join(map(_help, _contexts(main)))


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """A command, and the commands below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name, one in context.command.commands.items():
            yield from _contexts(click.Context(one, context, name))


def _help(context: click.Context) -> str:
    return f"\n## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"


def errors() -> str:
    """The status table of all refusals, and their shape."""
    example = json.loads(responses.failure(NoSuchOriginal(), "3f2a91c0-1f", Settings()).body)
    kinds = [kind for kind in by_code().values() if not issubclass(kind, (CommandError, Disconnected))]
    rows = "".join(map(_error, sorted(kinds, key=lambda kind: (kind.status, kind.code))))
    return ERRORS % json.dumps(example, indent=2) + rows


def _error(kind: type[GalerlyError]) -> str:
    kept = "no" if kind.max_age_s is None else f"{kind.max_age_s} s"
    again = f"; `Retry-After: {kind.retry_after_s}`" if kind.retry_after_s is not None else ""
    return f"| {kind.status} | `{kind.code}` | {kind.public} | {kept}{again} |\n"


def lost() -> str:
    """The vocabulary of losses."""
    return LOST + "".join(f"| `{word}` | {sentence} |\n" for word, sentence in LOSSES.items())


PAGES = {"settings.md": settings, "cli.md": commands, "errors.md": errors, "lost.md": lost}

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page(), "utf-8")
