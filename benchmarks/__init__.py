"""How fast, how lean? `python -m benchmarks.{render,server,hit,memory,start}`, each with `--help`.

What is compared alternates within one run and is told as a ratio: machines drift by tens of per cent
between minutes. CPU time decides, wall time is told beside it. A target missed is exit code 1.
"""
