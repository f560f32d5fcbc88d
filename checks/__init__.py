"""Checks that are not tests: a whole server over a corpus of real photographs and hostile files."""
