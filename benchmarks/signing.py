"""Measures the CPU of verifying a signed address: `python -m benchmarks.signing`."""

from __future__ import annotations

import argparse
import statistics
import time

from galerly_cdn.access.policy import Policy, gallery_resource
from galerly_cdn.access.signing import Signer, Verifier, new_pair, public_key

HOST, PATH = "https://cdn.example.com", "/resize/small/clients/smith/1.jpg"
EXPIRES_S = 2_000_000_000
ROUNDS, CALLS = 5, 1000


def cost_us(*, ecdsa: bool, policy: Policy) -> float:
    """Median CPU time of one verification in microseconds."""
    public, private = new_pair(ecdsa=ecdsa)
    verifier = Verifier({"K1": public_key(public)}, [HOST])
    query = Signer("K1", private).url(HOST + PATH, policy).partition("?")[2].encode()
    rounds = []
    for _ in range(ROUNDS):
        started_s = time.process_time()
        for _ in range(CALLS):
            verifier.verify(PATH.encode(), query, b"", client="192.0.2.1", now_s=EXPIRES_S - 1)
        rounds.append((time.process_time() - started_s) / CALLS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    """Print one row for each kind of key and policy."""
    argparse.ArgumentParser(prog="python -m benchmarks.signing", description=__doc__).parse_args()
    policies = {
        "canned": Policy(resource=HOST + PATH, expires_s=EXPIRES_S),
        "custom": Policy(resource=gallery_resource(HOST, "clients/smith"), expires_s=EXPIRES_S),
    }
    print("| key | policy | one verification |\n|---|---|---|")
    for key, ecdsa in (("RSA-2048", False), ("ECDSA P-256", True)):
        for name, policy in policies.items():
            print(f"| {key} | {name} | {cost_us(ecdsa=ecdsa, policy=policy):.0f} µs |")


if __name__ == "__main__":
    main()
