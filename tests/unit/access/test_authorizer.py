"""The authorizer's decisions: which keys are private, and which error refuses a request for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from galerly_cdn.access.authorizer import AccessDecision, Authorizer
from galerly_cdn.errors import GalerlyError, LooksPrivate, MalformedKey, SignatureExpired, SignatureRequired
from galerly_cdn.http.request import Request, empty_scope

if TYPE_CHECKING:
    from galerly_cdn.access.signing import Verifier

REQUEST = Request(empty_scope("192.0.2.1"), "run-1")
PRIVATE = "clients/smith/1.jpg"


class FakeVerifier:
    """Raises `error`, or accepts every signature."""

    def __init__(self, error: GalerlyError | None = None) -> None:
        self.error = error

    def verify(self, *_: object, **__: object) -> None:
        if self.error is not None:
            raise self.error


def authorizer(error: GalerlyError | None = None, *, signs_originals: bool = False) -> Authorizer:
    verifier = cast("Verifier", FakeVerifier(error))
    return Authorizer(("clients",), verifier, lambda: 0.0, signs_originals=signs_originals)


@pytest.mark.parametrize("key", ["public/1.jpg", "clients2/smith/1.jpg", "a/clients/1.jpg"])
def test_key_outside_the_private_prefixes_is_public(key: str) -> None:
    assert authorizer(SignatureExpired()).decide(key, REQUEST) == AccessDecision(is_private=False)


def test_signed_request_for_a_private_key_is_private_and_allowed() -> None:
    assert authorizer().decide(PRIVATE, REQUEST) == AccessDecision(is_private=True)


def test_refusal_of_a_private_key_is_private_too() -> None:
    error = SignatureExpired()
    decision = authorizer(error).decide(PRIVATE, REQUEST)
    assert (decision.is_private, decision.refusal) == (True, error)


@pytest.mark.parametrize("key", ["clients", "clients/1.jpg", "clients/a/b/1.jpg"])
def test_private_key_without_exactly_two_segments_is_refused_as_malformed(key: str) -> None:
    decision = authorizer().decide(key, REQUEST)
    assert decision.is_private
    assert isinstance(decision.refusal, MalformedKey)


def test_private_key_without_a_verifier_requires_a_signature() -> None:
    decision = Authorizer(("clients",), None, lambda: 0.0, signs_originals=False).decide(PRIVATE, REQUEST)
    assert decision.is_private
    assert isinstance(decision.refusal, SignatureRequired)


def test_signed_originals_are_private_under_every_key() -> None:
    signing = authorizer(SignatureExpired(), signs_originals=True)
    assert signing.decide("public/1.jpg", REQUEST, is_original=True).refusal is not None
    assert signing.decide("public/1.jpg", REQUEST) == AccessDecision(is_private=False)
    public = authorizer(SignatureExpired())
    assert public.decide("public/1.jpg", REQUEST, is_original=True) == AccessDecision(is_private=False)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("clients", "Clients/smith/1.jpg"),
        ("clients", "CLIENTS/1.jpg"),
        ("clients/2026", "Clients/2026/smith/1.jpg"),
        ("caf\u00e9", "cafe\u0301/smith/1.jpg"),
        ("cafe\u0301", "caf\u00e9/smith/1.jpg"),
        ("stra\u00dfe", "STRASSE/smith/1.jpg"),
        ("\u212bngstr\u00f6m", "\u00e5ngstr\u00f6m/smith/1.jpg"),  # the Angstrom sign, and a letter
    ],
)
def test_upload_to_a_folder_that_is_nearly_private_is_refused(prefix: str, key: str) -> None:
    tested = Authorizer((prefix,), None, lambda: 0.0, signs_originals=False)
    with pytest.raises(LooksPrivate):
        tested.checked_upload(key)


@pytest.mark.parametrize(
    "key", ["client/1.jpg", "clients2/1.jpg", "a/Clients/1.jpg", "clients/smith/1.jpg", "a.jpg"]
)
def test_upload_to_another_folder_or_the_private_one_is_accepted(key: str) -> None:
    assert Authorizer(("clients",), None, lambda: 0.0, signs_originals=False).checked_upload(key) == key
