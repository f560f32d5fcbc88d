"""Prints the tables and the figures of `python -m checks damage`, and says whether they are as required."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from checks.mutations import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.damage import Irregular, Outcome

REQUIRED_SHARE = 0.98
"""The share of the visibly damaged files, about which the oracle complains, to be refused everywhere."""
_COLUMNS = ("tried", "complains", "visible", "refused", "share", "refused, not visible", "inconsistent")
_ORACLES = {"jpeg": "djpeg (libjpeg-turbo)", "png": "Pillow: load and verify"}


def report(outcomes: Sequence[Outcome]) -> int:
    """Print everything; returns the number of figures that are not as required."""
    undamaged = [one for one in outcomes if one.mutation is None]
    usable = {(one.file, one.kind) for one in undamaged if not one.oracle_complains}
    damaged = [one for one in outcomes if one.mutation and (one.file, one.kind) in usable]
    failures: list[str] = []
    for kind in sorted({one.kind for one in outcomes}):
        own = [one for one in damaged if one.kind is kind]
        count = sum(one.kind is kind for one in undamaged)
        print(f"\n{kind}: {count} photographs; oracle: {_ORACLES.get(kind, 'Pillow: load')}")
        _print_mutations(own)
        _print_served([one for one in own if one.is_visible])
        failures += _headline(kind, own)
    print()
    for one in undamaged:
        if one.oracle_complains:
            print(f"left out, because the oracle complains about the undamaged file: {one.file}")
    failures += [
        f"undamaged, but refused: {_line(one)}"
        for one in undamaged
        if not one.oracle_complains and len(one.served) < len(one.verdicts)
    ]
    print(*_missed(damaged), sep="\n")
    inconsistent = [one for one in outcomes if not one.is_consistent]
    failures += [f"inconsistent: {_line(one)}" for one in inconsistent]
    print(*failures, sep="\n")
    return len(failures)


def report_harmless(irregular: Sequence[Irregular]) -> int:
    """Print a row for each irregularity; returns the number of those refused or shown with other pixels."""
    rows = Counter((one.kind, one.name) for one in irregular)
    failed = Counter((one.kind, one.name) for one in irregular if one.problem)
    print(
        "\nharmless irregularities: the oracle shows the same picture; it must be served with the same pixels"
    )
    for row, count in sorted(rows.items()):
        print(f"{row[0]:6} {row[1]:18} {count:>5} tried {failed[row]:>5} refused or with other pixels")
    problems = [one for one in irregular if one.problem]
    for one in problems:
        print(f"{one.file}, {one.name}: {one.problem}")
    return len(problems)


def _headline(kind: str, own: Sequence[Outcome]) -> Iterator[str]:
    """Print a format's headline; yield a line if the share is too small."""
    visible = [one for one in own if one.is_visible]
    refused = [one for one in visible if not one.served]
    share = len(refused) / len(visible) if visible else 1.0
    headline = (
        f"{kind}: refused {len(refused)} of {len(visible)} visibly damaged files about which the oracle "
        f"complains: {share:.1%}"
    )
    print(headline)
    if share < REQUIRED_SHARE:
        yield f"{headline}, required are {REQUIRED_SHARE:.0%}"


def _print_mutations(own: Sequence[Outcome]) -> None:
    print(f"{'mutation':16}" + "".join(f"{name:>{len(name) + 3}}" for name in _COLUMNS))
    for kind in (*KINDS, "all"):
        row = [one for one in own if kind == "all" or (one.mutation and one.mutation.kind == kind)]
        visible = [one for one in row if one.is_visible]
        refused = sum(not one.served for one in visible)
        values = (
            len(row),
            sum(one.oracle_complains for one in row),
            len(visible),
            refused,
            f"{refused / len(visible):.0%}" if visible else "-",
            sum(not one.served and not one.is_visible for one in row),
            sum(not one.is_consistent for one in row),
        )
        print(
            f"{kind:16}"
            + "".join(f"{value:>{len(name) + 3}}" for value, name in zip(values, _COLUMNS, strict=True))
        )


def _print_served(visible: Sequence[Outcome]) -> None:
    """By size (rows) and format (columns)."""
    served = Counter(where for one in visible for where in one.served)
    if not served:
        return
    sizes: dict[str, list[str]] = {}
    for where in visible[0].verdicts:
        sizes.setdefault(where.partition(".")[0], []).append(where)
    print(f"of the {len(visible)} visible ones, served:")
    for size, places in sizes.items():
        cells = (f"{place.partition('.')[2]} {served[place]}".strip() for place in places)
        print(f"{size:>16}" + "".join(f"{cell:>12}" for cell in cells))


def _missed(damaged: Sequence[Outcome]) -> Iterator[str]:
    for one in damaged:
        if one.is_visible and one.served:
            yield f"served although visibly damaged: {_line(one)}"
    for kind in sorted({one.kind for one in damaged}):
        silent = [
            one
            for one in damaged
            if one.kind is kind and one.served and not one.oracle_complains and one.different > 0.005
        ]
        yield f"{kind}: {len(silent)} visibly damaged files were served about which the oracle says nothing"


def _line(one: Outcome) -> str:
    share = f"{one.different:.1%} of the pixels differ"
    codes = sorted(set(one.verdicts.values()) - {"served"})
    where = "everywhere" if len(one.served) == len(one.verdicts) else ", ".join(one.served) or "nowhere"
    return f"{one.file} {one.mutation or ''} ({share}): served {where} {' '.join(codes)}"
