"""An image CDN. `edge.py`, which answers one public request, is the place to begin reading."""

__version__ = "0.1.0"
