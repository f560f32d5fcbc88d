"""The commands `render` (a file) and `inspect` (a file, or an original of a store)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.library_options import LibraryOptions, library_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.library import Inspection, Refused, Stored, Verdict
    from galerly_cdn.model import Facts, Rendered


@click.command(epilog="Example: galerly-cdn render photo.jpg --size thumbnail --format webp -o photo.webp")
@click.argument("photograph", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--size", required=True, help="A size of the allow-list: 800x600, or its name.")
@click.option("--format", "image_format", help="jpeg, webp, avif or png. [png with alpha, else jpeg]")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File to write; - is stdout.",
)
@terminal.CONFIG
@terminal.JSON
def render(  # noqa: PLR0913 - its options
    photograph: Path, size: str, image_format: str | None, output: Path, file: Path | None, *, as_json: bool
) -> None:
    """Render PHOTOGRAPH at a size into a file, exactly as the server would answer it."""
    from galerly_cdn.app import renderer

    if output.exists() and output.samefile(photograph):
        raise click.UsageError(f"{output} is the photograph itself; name another file.")
    rendered, body = renderer.render_file(
        terminal.load_settings(file, workers=1).settings, photograph, size, image_format
    )
    with click.open_file(os.fspath(output), "wb", atomic=True) as out:
        out.write(body)
    is_stdout_taken = output == Path("-")
    terminal.print_value(rendered, _rendered_line(output, rendered), as_json=as_json, err=is_stdout_taken)


@click.command(epilog="Example: galerly-cdn inspect wedding/1.jpg --store s3://photographs")
@click.argument("photograph")
@library_options
@terminal.JSON
def inspect(photograph: str, *, where: LibraryOptions, as_json: bool) -> None:
    """Show the facts of PHOTOGRAPH, what its renditions lose, and whether it can be shown.

    PHOTOGRAPH is a file. With --store or --admin it is a key, and its stored renditions are shown too. If
    only a setting names the store or the CDN, PHOTOGRAPH is a key unless there is a file of that name.

    A photograph that cannot be shown is a failure: the reason is a line on stderr.
    """
    if not where.is_given and (Path(photograph).exists() or not where.is_configured()):
        from galerly_cdn.app import renderer

        file = click.Path(exists=True, dir_okay=False, path_type=Path).convert(photograph, None, None)
        facts = renderer.inspect_file(terminal.load_settings(where.file, workers=1).settings, file)
        lines = "\n".join([_facts_lines(facts), _verdict_line(facts.verdict)])
        terminal.print_value(facts, lines, as_json=as_json)
        _exit_if_refused(facts.refused)
        return

    inspection = where.run_rendering(lambda library: library.inspect(photograph), workers=1)
    terminal.print_value(inspection, _inspection_lines(inspection), as_json=as_json)
    _exit_if_refused(inspection.refused)


def _rendered_line(output: Path, rendered: Rendered) -> str:
    lost = f"; lost: {', '.join(rendered.lost)}" if rendered.lost else ""
    sides = f"{rendered.width_px}×{rendered.height_px} px"
    return f"{output}: {rendered.format}, {sides}, {rendered.length_bytes} bytes{lost}"


def _inspection_lines(inspection: Inspection) -> str:
    renditions = inspection.renditions
    rows = {
        "key": inspection.key,
        "version": inspection.version,
        "length": terminal.format_bytes(inspection.length_bytes),
        "stored": f"{len(renditions)} renditions" if renditions else "no rendition",
    }
    lines = [_facts_lines(inspection.facts), _verdict_line(inspection.verdict), _table(rows)]
    return "\n".join([*lines, *map(_stored_line, renditions)])


def _verdict_line(verdict: Verdict) -> str:
    return _table({"verdict": verdict})


def _exit_if_refused(refused: Refused | None) -> None:
    """Say why the photograph cannot be shown, and exit with 1."""
    if refused is not None:
        terminal.print_error(refused.message)
        sys.exit(1)


def _stored_line(stored: Stored) -> str:
    state = (
        "current" if stored.is_current else f"stale: of version {stored.version}, recipe {stored.recipe[:12]}"
    )
    lost = f"; lost: {', '.join(stored.lost)}" if stored.lost else ""
    sides = f"{stored.width_px}×{stored.height_px} px"
    length = terminal.format_bytes(stored.length_bytes)
    return f"{stored.target:>16}  {stored.format}, {sides}, {length}, {state}{lost}"


def _facts_lines(facts: Facts) -> str:
    rows = {
        "format": facts.format,
        "sides": f"{facts.width_px} × {facts.height_px} px upright (orientation {facts.orientation})",
        "pixels": f"{facts.width_px * facts.height_px / 1e6:.1f} megapixels, {facts.frames} frame(s)",
        "samples": f"{facts.bands} × {facts.bits} bit{', alpha' if facts.has_alpha else ''}",
        "coding": "progressive" if facts.is_progressive else "sequential",
        "profile": facts.profile or "none (taken as sRGB)",
        "metadata": ", ".join(facts.metadata) or "none",
        "renditions lose": ", ".join(facts.loses) or "nothing",
        "memory to decode": f"about {facts.decode_bytes / 1e6:.0f} MB",
    }
    return _table(rows)


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(f"{name:>16}  {value}" for name, value in rows.items())
