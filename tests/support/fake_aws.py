"""Fakes AWS by lists of expected calls and responses, checked against botocore's service models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANY", "FakeAws", "aws"]


class FakeAws:
    """The expected calls of every service, in order; an unexpected call fails the test."""

    def __init__(self) -> None:
        self._stubs: dict[str, Stubber] = {}
        self._boto3_client = boto3.client

    def client(self, service: str, **options: object) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """Replaces `boto3.client`."""
        if service not in self._stubs:
            client = self._boto3_client(
                service, aws_access_key_id="AKIA", aws_secret_access_key="secret", **options
            )
            self._stubs[service] = Stubber(client)
            self._stubs[service].activate()
        return self._stubs[service].client

    def _stub(self, service: str) -> Stubber:
        self.client(service, region_name="us-east-1")
        return self._stubs[service]

    def expect(
        self, service: str, method: str, parameters: dict[str, Any] | None = None, **response: object
    ) -> None:
        self._stub(service).add_response(method, response, parameters)

    def expect_error(  # noqa: PLR0917 - the call and the error
        self,
        service: str,
        method: str,
        code: str,
        message: str = "no",
        parameters: dict[str, Any] | None = None,
        status: int = 400,
    ) -> None:
        self._stub(service).add_client_error(method, code, message, status, expected_params=parameters)

    def assert_all_called(self) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    """Replaces boto3's clients; at the end of the test every expected call must have been made."""
    fake = FakeAws()
    monkeypatch.setattr(boto3, "client", fake.client)
    yield fake
    fake.assert_all_called()
