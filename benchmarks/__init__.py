"""Benchmarks of CPU, latency and memory: `python -m benchmarks.{render,server,hit,memory,start}`.

Compared programs alternate within one run and are reported as ratios, because a machine's speed drifts by
tens of per cent within minutes. Targets are for CPU time; wall time is reported too. A benchmark exits with 1
if a target is missed. `--help` describes each one.
"""
