"""Finds damage that decoders pass over, for each kind of original."""
