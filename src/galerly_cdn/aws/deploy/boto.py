"""Makes boto3 clients and translates boto3's errors; boto3 comes with the extra `galerly-cdn[aws]`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from galerly_cdn import __version__
from galerly_cdn.aws.errors import AwsMissing, AwsRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.errors import GalerlyError

REGION = "us-east-1"
"""The stack's region: CloudFront's metrics, logs and certificates are there."""


def client(service: str, region: str = REGION) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    """A client of one service in a region, with the credentials that AWS's own tools would use.

    Raises `AwsMissing` if boto3 is not installed, `AwsRefused` for a profile that does not exist.
    """
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise AwsMissing("pip install 'galerly-cdn[aws]'") from error
    config = Config(
        retries={"mode": "standard", "max_attempts": 8},
        user_agent_extra=f"galerly-cdn/{__version__}",
    )
    with aws_errors():
        return boto3.client(service, region_name=region, config=config)


@contextlib.contextmanager
def aws_errors(kind: type[GalerlyError] = AwsRefused) -> Iterator[None]:
    """Raise boto3's errors as `kind`, with AWS's operation, code and message as the detail."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

    try:
        yield
    except ClientError as error:
        raise kind(
            f"{error.operation_name}: {error_code(error)}: {error.response['Error']['Message']}"
        ) from error
    except BotoCoreError as error:
        raise kind(str(error)) from error


def error_code(error: Exception) -> str:
    """AWS's code of an error, such as `AccessDenied`; empty for an error that is not AWS's."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
