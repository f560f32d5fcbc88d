"""Lists every check. `docs/troubleshooting.md` is generated from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.insight.doctor import fleet, machine, stack, store, url

if TYPE_CHECKING:
    from galerly_cdn.insight.doctor.checks import Check

CHECKS: tuple[Check[Any], ...] = (*machine.CHECKS, *fleet.CHECKS, *url.CHECKS, *store.CHECKS, *stack.CHECKS)
"""All checks, by subject."""
