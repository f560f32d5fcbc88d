"""AWS as a list of what it is asked and what it answers; each checked against botocore's service models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANY", "Amazon", "amazon"]


class Amazon:
    """What every service is asked, in order; a question that is not expected fails the test."""

    def __init__(self) -> None:
        self._stubs: dict[str, Stubber] = {}
        self._make = boto3.client

    def client(self, service: str, **options: object) -> Any:  # noqa: ANN401 - boto3 makes its classes when it runs
        """In boto3.client's place."""
        if service not in self._stubs:
            made = self._make(service, aws_access_key_id="AKIA", aws_secret_access_key="secret", **options)
            self._stubs[service] = Stubber(made)
            self._stubs[service].activate()
        return self._stubs[service].client

    def _stub(self, service: str) -> Stubber:
        self.client(service, region_name="us-east-1")
        return self._stubs[service]

    def expects(
        self, service: str, method: str, asked: dict[str, Any] | None = None, **answer: object
    ) -> None:
        self._stub(service).add_response(method, answer, asked)

    def refuses(  # noqa: PLR0917 - what is refused, and how
        self,
        service: str,
        method: str,
        code: str,
        message: str = "no",
        asked: dict[str, Any] | None = None,
        status: int = 400,
    ) -> None:
        self._stub(service).add_client_error(method, code, message, status, expected_params=asked)

    def was_asked_it_all(self) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    """Nothing reaches a network; all that is expected must have been asked at the end."""
    it = Amazon()
    monkeypatch.setattr(boto3, "client", it.client)
    yield it
    it.was_asked_it_all()
