"""Checks the variables of the clouds' own tools before the library of remote stores reads them. Pure.

That library does not check them: a region or a credential that no URL or header can hold ends in its panic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIXES = ("AWS_", "AZURE_", "GOOGLE_")
_KEY_ID, _SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_CREDENTIALS = (_KEY_ID, "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY")
_REGION = re.compile(r"[A-Za-z0-9-]+")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_WORD = re.compile(r"[!-~]+")
_PASSWORD = re.compile(r"[!-~]([ -~]*[!-~])?")
"""A secret of a compatible server may contain spaces; at an end they come from a copied line."""
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_PROXY = re.compile(r"([a-z0-9+.-]+://)?([!-~]+@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")


def problems(address: str, variables: Mapping[str, str]) -> list[str]:
    """A line for each variable with which the store at `address` cannot be used. No line repeats a secret.

    An empty variable counts as unset.
    """
    given = {name: value for name, value in variables.items() if value}
    found = [
        f"{name}: {given[name]!r} is no proxy's address: write `http://proxy.example.com:3128`"
        for name in _PROXIES
        if name in given and not _PROXY.fullmatch(given[name])
    ]
    found += [
        f"{name}: a credential is one word of ASCII; this one has a space, a line break or another character"
        for name in _CREDENTIALS
        if name in given and not _WORD.fullmatch(given[name])
    ]
    if _SECRET in given and not _PASSWORD.fullmatch(given[_SECRET]):
        found.append(f"{_SECRET}: it begins or ends with a space or a line break, or is not ASCII")
    if address.startswith("s3://"):
        found += _aws_problems(given)
    account = given.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if address.startswith("az://") and account and not _ACCOUNT.fullmatch(account):
        found.append(f"AZURE_STORAGE_ACCOUNT_NAME: {account!r} is no name of a storage account")
    return found


def _aws_problems(given: Mapping[str, str]) -> Iterator[str]:
    for name in _REGIONS:
        if name in given and not _REGION.fullmatch(given[name]):
            yield f"{name}: {given[name]!r} is no region: write `eu-central-1`"
    for name, other in ((_KEY_ID, _SECRET), (_SECRET, _KEY_ID)):
        if name in given and other not in given:
            yield f"{other} is not set, but {name} is: give both or neither"
