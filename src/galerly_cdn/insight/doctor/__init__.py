"""Checks a CDN for the known causes of missing, slow and costly pictures.

Each subject (the machine, an address, a store, a stack on AWS) has two modules: one reads the facts, the
other decides on them. `table` lists every check; `docs/troubleshooting.md` is generated from it.
"""
