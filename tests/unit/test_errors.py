"""Error classes: status, code, sentence, lifetime and headers. The docs' table is made from them."""

from __future__ import annotations

import re

import pytest

from galerly_cdn.errors import (
    GalerlyError,
    MethodNotAllowed,
    NoSuchOriginal,
    NotFound,
    Quarantined,
    QueueFull,
    RangeNotSatisfiable,
    ReadOnlyStore,
    SettingsError,
    Unauthorized,
    Unavailable,
    UnknownPath,
    Unrenderable,
    by_code,
)

KINDS = sorted(by_code().values(), key=lambda kind: kind.code)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)


def _every_class(kind: type[GalerlyError] = GalerlyError) -> set[type[GalerlyError]]:
    return {kind}.union(*(_every_class(one) for one in kind.__subclasses__()))


def test_every_class_has_its_own_code() -> None:
    assert set(by_code().values()) == _every_class()
    assert all(code == kind.code for code, kind in by_code().items())


@each_kind
def test_code_is_lower_case_words(kind: type[GalerlyError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)


@each_kind
def test_public_text_is_one_sentence(kind: type[GalerlyError]) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z0-9 ,;’'-]+\.", kind.public)


@each_kind
def test_only_errors_of_the_address_or_the_original_are_cached(kind: type[GalerlyError]) -> None:
    """A cached response outlives its cause: 5xx and a full queue must not be cached (RFC 9111 §3)."""
    if kind.max_age_s is not None:
        assert kind.status in {404, 415}
    if kind.status >= 500:
        assert kind.max_age_s is None


@pytest.mark.parametrize(
    ("kind", "status", "max_age_s"),
    [(UnknownPath, 404, 60), (NoSuchOriginal, 404, 5), (Unrenderable, 415, 300), (Quarantined, 415, None)],
)
def test_lifetimes_are_those_of_the_url_contract(
    kind: type[GalerlyError], status: int, max_age_s: int | None
) -> None:
    assert (kind.status, kind.max_age_s) == (status, max_age_s)


@pytest.mark.parametrize("kind", [one for one in KINDS if one.status == 503], ids=lambda kind: kind.code)
def test_every_503_has_retry_after(kind: type[GalerlyError]) -> None:
    assert issubclass(kind, Unavailable)
    assert kind.retry_after_s in {1, 5, 10, 60}


def test_text_of_an_error_is_its_detail() -> None:
    assert str(UnknownPath("the private part")) == "the private part"
    assert str(UnknownPath()) == UnknownPath.public
    assert UnknownPath().detail == ""


def test_unsatisfiable_range_has_the_length() -> None:
    assert RangeNotSatisfiable(42).length_bytes == 42


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (GalerlyError(), {}),
        (NotFound(), {}),
        (QueueFull(), {b"retry-after": b"1"}),
        (MethodNotAllowed(), {b"allow": b"GET, HEAD"}),
        (MethodNotAllowed(allowed=("DELETE", "PUT")), {b"allow": b"DELETE, PUT"}),
        (ReadOnlyStore(), {b"allow": b"GET, HEAD"}),
        (Unauthorized(), {b"www-authenticate": b"Bearer"}),
        (RangeNotSatisfiable(42), {b"content-range": b"bytes */42"}),
    ],
    ids=str,
)
def test_error_headers_are_those_of_its_class(error: GalerlyError, headers: dict[bytes, bytes]) -> None:
    assert dict(error.headers()) == headers


def test_settings_error_has_one_line_per_problem() -> None:
    error = SettingsError(["a: one", "b: two"])
    assert error.problems == ["a: one", "b: two"]
    assert str(error) == "a: one\nb: two"
