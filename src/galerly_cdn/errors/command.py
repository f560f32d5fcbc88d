"""A command cannot do what it was asked for: never served, told on a terminal."""

from __future__ import annotations

from galerly_cdn.errors.root import GalerlyError


class CommandError(GalerlyError):
    code = "command"
    public = "The command could not do this."


class SettingsError(CommandError):
    """Unknown or impossible settings; `problems` holds one clear line for each."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CdnUnreachable(CommandError):
    """Nothing answers at the address of a running CDN's admin side."""

    code = "cdn-unreachable"
    public = "The CDN’s admin side cannot be reached."


class CdnInterrupted(CommandError):
    """The connection ended, or nothing came, before the answer did: it may or may not have been done."""

    code = "cdn-interrupted"
    public = "The CDN’s admin side did not answer to the end; run it again."


class UnexpectedAnswer(CommandError):
    """What answers is no admin side, or speaks another version of its language."""

    code = "unexpected-answer"
    public = "What answered is no admin side that is understood here."


class AwsMissing(CommandError):
    """boto3 is an extra; `detail` says how to install it."""

    code = "aws-missing"
    public = "This needs boto3, which is not installed."


class AwsRefused(CommandError):
    """AWS did not do what it was asked; `detail` has its own words."""

    code = "aws-refused"
    public = "AWS refused."


class DeploymentFailed(CommandError):
    """The stack is not what was asked for; `detail` says what, why, and what to do."""

    code = "deployment-failed"
    public = "The deployment failed."


class BuildFailed(CommandError):
    """What AWS is to be given could not be made."""

    code = "build-failed"
    public = "The package could not be built."


class UnmodelledProperty(CommandError):
    """The local CloudFront would have to pretend: a property of the template that it does not model."""

    code = "unmodelled-property"
    public = "The local CloudFront does not model this part of the template."

    def __init__(self, resource: str, path: str = "", why: str = "") -> None:
        super().__init__(": ".join(part for part in (resource, path, why) if part))
        self.resource = resource
