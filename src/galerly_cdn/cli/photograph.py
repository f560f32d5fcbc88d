"""Commands for one photograph's file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
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
    help="File to write, - for stdout.",
)
@terminal.CONFIG
@terminal.JSON
def render(  # noqa: PLR0913 - its options
    photograph: Path, size: str, image_format: str | None, output: Path, file: Path | None, *, as_json: bool
) -> None:
    """Render PHOTOGRAPH at a size into a file: exactly what the server would answer."""
    from galerly_cdn import app

    if output.exists() and output.samefile(photograph):
        raise click.UsageError(f"{output} is the photograph itself: it would be lost.")
    rendered, body = app.render_file(terminal.load(file, workers=1).settings, photograph, size, image_format)
    with click.open_file(os.fspath(output), "wb", atomic=True) as out:
        out.write(body)
    is_stdout_taken = output == Path("-")
    terminal.answer(rendered, _rendered_line(output, rendered), as_json=as_json, err=is_stdout_taken)


@click.command(epilog="Example: galerly-cdn inspect photo.jpg --json")
@click.argument("photograph", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@terminal.CONFIG
@terminal.JSON
def inspect(photograph: Path, file: Path | None, *, as_json: bool) -> None:
    """Tell what PHOTOGRAPH is, and what its renditions lose."""
    from galerly_cdn import app

    facts = app.inspect_file(terminal.load(file, workers=1).settings, photograph)
    terminal.answer(facts, _facts_lines(facts), as_json=as_json)


def _rendered_line(output: Path, rendered: Rendered) -> str:
    lost = f"; lost: {', '.join(rendered.lost)}" if rendered.lost else ""
    sides = f"{rendered.width_px}×{rendered.height_px} px"
    return f"{output}: {rendered.format}, {sides}, {rendered.length_bytes} bytes{lost}"


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
    return "\n".join(f"{name:>16}  {value}" for name, value in rows.items())
