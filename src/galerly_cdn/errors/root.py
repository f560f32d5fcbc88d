"""The root of the errors, and the list of them all."""

from __future__ import annotations

from typing import ClassVar


class GalerlyError(Exception):
    """The root. `detail` is private: paths, library texts and numbers for the operator."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    public: ClassVar[str] = "Something went wrong on our side."
    max_age_s: ClassVar[int | None] = None
    """How long caches may keep the answer; None is `no-store`."""
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.public)
        self.detail = detail


def by_code() -> dict[str, type[GalerlyError]]:
    """Every error class by its code: how an error crosses from a worker process to the server."""
    found: dict[str, type[GalerlyError]] = {}
    pending: list[type[GalerlyError]] = [GalerlyError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found
