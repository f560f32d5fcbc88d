"""Checks the renderer and a server against folders of photographs.

    python -m checks corpus CORPUS     a server: good photographs are rendered right, bad ones refused
    python -m checks damage FOLDER     the renderer: damaged photographs are refused, undamaged ones served
    python -m checks reports FOLDER    the renderer: the pictures of reported mistakes are right

Prints each deviation and a summary; exits with 1 after a deviation. `COMMAND --help` says more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_CORPUS = """
Every good photograph must be rendered correctly at every size and format, and every bad one refused.
Every file is also uploaded: a file that cannot be rendered must be refused and leave nothing behind.
CORPUS contains good/ and bad/, each with a SOURCES.tsv. Deviations that exceptions.toml lists with their
reason are no failure.
"""
_DAMAGE = """
Every photograph below FOLDER (JPEG, PNG, GIF, TIFF, AVIF, WebP) is damaged: a zeroed or random 4 KB page,
512 or 64 bytes deleted or inserted, at nine positions; its tail zeroed or cut off at every 1/16. Each
damaged file is rendered at every size of the default allow-list as JPEG, WebP and AVIF, and inspected and
rendered as at an upload.

The oracle for JPEG is libjpeg-turbo's djpeg: whether it warns, and what it shows. For the other formats it
is Pillow: whether it raises an error, and what it shows with LOAD_TRUNCATED_IMAGES. Pictures are compared
fitted into 800x600. A pixel is different if its CIEDE2000 difference is more than 5, and damage is visible
if more than 0.5 % of the pixels are different.

Required, else the exit status is 1: at least 98 % of the files that are visibly damaged and about which the
oracle complains are refused everywhere; each file is refused everywhere or nowhere; no undamaged file is
refused. Harmless irregularities, such as a missing EOI marker, must be served with the same pixels if the
oracle shows the same picture. Needs djpeg (Debian: libjpeg-turbo-progs) and Pillow. The mutations are the
same in each run.
"""
_REPORTS = """
FOLDER contains pictures and a README.tsv whose column `file` names them. Each is rendered as PNG at the
largest size. checks/reports.toml says, by the names of the files, what must be true: the status, the sides,
the mean colour, or that it looks as Pillow or Chromium show it. A file without an entry is rendered and
described beside Pillow's picture. Needs Pillow; without Chromium, its comparisons are left out.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks", description=__doc__, formatter_class=_Help)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    corpus = commands.add_parser("corpus", help="check a server", description=_CORPUS, formatter_class=_Help)
    corpus.add_argument("corpus", type=Path, help="folder with good/ and bad/, each with a SOURCES.tsv")
    corpus.add_argument("--only", choices=["good", "bad", "upload"], help="check one of these")
    damage = commands.add_parser(
        "damage", help="check that damaged files are refused", description=_DAMAGE, formatter_class=_Help
    )
    damage.add_argument("folder", type=Path)
    damage.add_argument(
        "--sample",
        type=int,
        metavar="N",
        help="N mutations of each photograph, not all 84: 1 is a few minutes",
    )
    damage.add_argument(
        "--variants",
        action="store_true",
        help="also each JPEG as baseline or progressive, with restart markers, and as 4:4:4",
    )
    damage.add_argument("--quick", action="store_true", help="each size in one format: a third of the time")
    damage.add_argument("--only", metavar="FORMAT", help="photographs of this format: jpeg, png, gif, …")
    damage.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    reports = commands.add_parser(
        "reports", help="check the pictures of reports", description=_REPORTS, formatter_class=_Help
    )
    reports.add_argument("folder", type=Path, help="folder with pictures and a README.tsv")
    return _run(parser.parse_args())


def _run(arguments: argparse.Namespace) -> int:
    try:
        if arguments.command == "corpus":
            from checks import server

            return server.run(arguments.corpus, arguments.only)
        from checks import damage, reports
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: script/setup installs it", file=sys.stderr)
        return 2
    if arguments.command == "reports":
        return reports.run(arguments.folder)
    return damage.run(
        arguments.folder,
        sample=arguments.sample,
        jobs=arguments.jobs,
        with_variants=arguments.variants,
        only=arguments.only,
        quick=arguments.quick,
    )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the descriptions."""


if __name__ == "__main__":  # the processes of `damage` import this file, too
    sys.exit(main())
