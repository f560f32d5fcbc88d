"""galerly-cdn: an image CDN. Read `edge.py` first; `docs/decisions/0001` draws the house."""

__version__ = "0.1.0"
