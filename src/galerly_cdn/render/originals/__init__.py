"""Reads the kinds of originals that libvips does not read by itself, and names them."""
