"""The command that writes a photograph's `<picture>`."""

from __future__ import annotations

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.library_options import LibraryOptions, library_options


@click.command(epilog='Example: galerly-cdn link wedding/1.jpg --alt "The first dance" --store photographs')
@click.argument("key")
@click.option("--size", default="thumbnail", show_default=True, help="As large as the page shows it.")
@click.option("--alt", default="", help="What is to be seen, for those who do not see it.")
@click.option(
    "--url", help="Scheme and host of the pictures. [the first of public_urls, else the page's own]"
)
@library_options
@terminal.JSON
def link(key: str, size: str, alt: str, url: str | None, *, where: LibraryOptions, as_json: bool) -> None:  # noqa: PLR0913 - its options
    """Print the <picture> that shows the photograph KEY in a page; an application has galerly_cdn.links."""
    from galerly_cdn.links import Links

    settings = where.settings()
    links = Links(next(iter(settings.public_urls), "") if url is None else url, settings.sizes)
    facts = where.run_rendering(lambda library: library.inspect(key), workers=1).facts
    picture = links.picture(key, facts.width_px, facts.height_px, size, alt=alt)
    terminal.print_value(picture, str(picture), as_json=as_json)
