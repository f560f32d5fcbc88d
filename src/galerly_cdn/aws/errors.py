"""Defines the errors of the `aws` commands, which end with one line."""

from __future__ import annotations

from galerly_cdn.errors import CommandError


class AwsMissing(CommandError):
    """boto3, an optional dependency, is not installed; `detail` says how to install it."""

    code = "aws-missing"
    public = "This command requires boto3, which is not installed."


class AwsRefused(CommandError):
    """AWS refused a request; `detail` is its message."""

    code = "aws-refused"
    public = "AWS refused the request."


class DeploymentFailed(CommandError):
    """The stack was not deployed as requested; `detail` says what failed, why, and what to do."""

    code = "deployment-failed"
    public = "The deployment failed."


class BuildFailed(CommandError):
    code = "build-failed"
    public = "The package could not be built."
