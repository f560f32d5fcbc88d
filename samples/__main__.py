"""`python -m samples OUT [--megapixels 12]`: make the sample gallery."""

from argparse import ArgumentParser
from pathlib import Path

from samples.gallery import SAMPLES, make


def main() -> None:
    """Read the command line and make the pictures, one progress line each."""
    parser = ArgumentParser(
        prog="python -m samples",
        description="Make a gallery of photograph-like pictures, painted from nothing.",
    )
    parser.add_argument("out", type=Path, help="the folder to make them in; pictures already there are kept")
    parser.add_argument("--megapixels", type=float, default=12.0, help="size of each picture (default 12)")
    parser.add_argument(
        "--names", nargs="+", choices=[sample.name for sample in SAMPLES], metavar="NAME", help="only these"
    )
    options = parser.parse_args()
    make(options.out, options.megapixels, options.names)


main()
