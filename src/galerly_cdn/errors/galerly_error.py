"""Defines the base of the errors: status, stable code, public sentence, cache lifetime, headers. Pure."""

from __future__ import annotations

from typing import ClassVar


class GalerlyError(Exception):
    """The base of all errors. `detail` is for the operator's log only: paths, library messages, numbers."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    public: str = "An internal error occurred."
    """The sentence for people. Each class has one; only `UnsupportedFormat` has others, of its instances."""
    max_age_s: ClassVar[int | None] = None
    """How long caches may keep the response; None is `no-store`."""
    retry_after_s: int | None = None

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.public)
        self.detail = detail

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers that belong to this error, beside those of every error response."""
        return [] if self.retry_after_s is None else [(b"retry-after", b"%d" % self.retry_after_s)]


def by_code() -> dict[str, type[GalerlyError]]:
    """Every error class by its code: a worker process sends an error's code to the server."""
    classes: dict[str, type[GalerlyError]] = {}
    pending: list[type[GalerlyError]] = [GalerlyError]
    while pending:
        kind = pending.pop()
        classes[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return classes
