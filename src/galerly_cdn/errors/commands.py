"""Defines the errors of commands, which no request is answered with. Pure."""

from __future__ import annotations

from galerly_cdn.errors.galerly_error import GalerlyError


class CommandError(GalerlyError):
    code = "command"
    public = "The command failed."


class SettingsError(CommandError):
    """Unknown or invalid settings; `problems` has one line for each."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CdnUnreachable(CommandError):
    code = "cdn-unreachable"
    public = "The admin API cannot be reached."


class CdnInterrupted(CommandError):
    """The connection ended or timed out before the response was complete: the change may have been made."""

    code = "cdn-interrupted"
    public = "The admin API’s response is incomplete; run the command again."


class UnexpectedAnswer(CommandError):
    """The response is not from an admin API, or from another version of it."""

    code = "unexpected-answer"
    public = "The server at this address is not a compatible admin API."
