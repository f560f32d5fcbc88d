"""Runs the command line for `python -m galerly_cdn`."""

from galerly_cdn.cli import main

main()
