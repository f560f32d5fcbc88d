"""Generates the sample gallery: `python -m samples OUT [--megapixels 12]`."""

from argparse import ArgumentParser
from pathlib import Path

from samples.gallery import SAMPLES, make


def main() -> None:
    """Run the command line; prints one line per picture."""
    parser = ArgumentParser(
        prog="python -m samples",
        description="Generate a gallery of photograph-like pictures.",
    )
    parser.add_argument("out", type=Path, help="the output folder; existing pictures are kept")
    parser.add_argument("--megapixels", type=float, default=12.0, help="size of each picture (default 12)")
    parser.add_argument(
        "--names",
        nargs="+",
        choices=[sample.name for sample in SAMPLES],
        metavar="NAME",
        help="only these pictures",
    )
    options = parser.parse_args()
    make(options.out, options.megapixels, options.names)


main()
