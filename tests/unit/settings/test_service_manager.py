"""Tests what is read of a service manager's environment variables."""

from __future__ import annotations

import os

import pytest

from galerly_cdn.errors import SettingsError
from galerly_cdn.settings.load import take_service_manager
from galerly_cdn.settings.service_manager import ServiceManager, parse_service_manager

PID = 4711


def passed(count: int, names: str | None, pid: int = PID) -> dict[str, str]:
    variables = {"LISTEN_FDS": str(count), "LISTEN_PID": str(pid)}
    return variables if names is None else {**variables, "LISTEN_FDNAMES": names}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ServiceManager()),
        ({"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "", "LISTEN_FDS": ""}, ServiceManager()),
        ({"NOTIFY_SOCKET": "/run/notify"}, ServiceManager("/run/notify")),
        ({"NOTIFY_SOCKET": "@notify"}, ServiceManager("@notify")),
        ({"WATCHDOG_USEC": "1500000"}, ServiceManager("", 1.5)),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(PID)}, ServiceManager("", 1.5)),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, ServiceManager()),
        (passed(0, ""), ServiceManager()),
        (passed(1, None), ServiceManager("", 0, (("public", 3),))),
        (passed(1, "galerly-cdn.socket"), ServiceManager("", 0, (("public", 3),))),
        (passed(1, "admin"), ServiceManager("", 0, (("admin", 3),))),
        (passed(2, "admin:public"), ServiceManager("", 0, (("admin", 3), ("public", 4)))),
        (passed(2, "public:public"), ServiceManager("", 0, (("public", 3), ("public", 4)))),
        (passed(2, "a:b", pid=1), ServiceManager()),
        ({"LISTEN_FDS": "2"}, ServiceManager()),
    ],
)
def test_variables_of_this_process_are_read(variables: dict[str, str], expected: ServiceManager) -> None:
    assert parse_service_manager(variables, PID) == expected


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC"),
        (passed(2, None), "2 sockets are passed with the names ''"),
        (passed(2, "public:web"), "FileDescriptorName="),
        (passed(2, "public"), "FileDescriptorName="),
        (passed(1, "public:admin") | {"LISTEN_FDS": "3"}, "FileDescriptorName="),
    ],
)
def test_variables_that_cannot_be_read_are_one_problem(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_service_manager(variables, PID)
    (line,) = raised.value.problems
    assert problem in line


def test_taken_variables_are_not_left_for_commands_that_this_process_starts() -> None:
    variables = {"PATH": "/bin", "NOTIFY_SOCKET": "@a", **passed(1, "public", os.getpid())}
    assert take_service_manager(variables) == ServiceManager("@a", 0, (("public", 3),))
    assert variables == {"PATH": "/bin"}
