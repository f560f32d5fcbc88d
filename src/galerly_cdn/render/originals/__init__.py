"""Reads what libvips does not report from each kind of original."""
