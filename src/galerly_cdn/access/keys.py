"""Loads public keys and signers from PEM files, and creates key pairs. A key's id is its file name."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING

from galerly_cdn.access import signing
from galerly_cdn.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PRIVATE = ".private.pem"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def load_public_keys(folder: Path) -> Mapping[str, signing.PublicKey]:
    """The keys of all `{id}.pem`. Raises `SettingsError`: a line per unusable file, or one if none exists."""
    problems = []
    keys = {}
    try:
        files = sorted(one for one in folder.iterdir() if one.suffix == ".pem")
    except OSError as error:
        raise SettingsError([f"public_keys: cannot read the folder {folder}: {error.strerror}"]) from error
    for file in files:
        if file.name.endswith(_PRIVATE):
            problems.append(f"public_keys: {file} is a private key; remove it, the server must not have it")
            continue
        try:
            keys[_checked_id(file.stem)] = signing.public_key(file.read_bytes())
        except OSError as error:
            problems.append(f"public_keys: cannot read {file}: {error.strerror}")
        except ValueError as error:
            problems.append(f"public_keys: {file}: {str(error).splitlines()[0]}")
    if not files:
        problems.append(f"public_keys: there is no {{id}}.pem in {folder}")
    if problems:
        raise SettingsError(problems)
    return keys


def load_signer(file: Path) -> signing.Signer:
    """The signer of `{id}.private.pem`. Raises `OSError`, and `SettingsError` for an unusable key."""
    try:
        key_id = _checked_id(file.name.removesuffix(".pem").removesuffix(".private"))
        return signing.Signer(key_id, file.read_bytes())
    except ValueError as error:
        raise SettingsError([f"{file}: {str(error).splitlines()[0]}"]) from error


def load_paired_signer(file: Path, public_keys: Mapping[str, signing.PublicKey]) -> signing.Signer:
    """The signer of the setting `signing_key`, whose signatures one of `public_keys` verifies.

    Raises `SettingsError`.
    """
    try:
        signer = load_signer(file)
    except OSError as error:
        raise SettingsError([f"signing_key: cannot read {file}: {error.strerror}"]) from error
    public = public_keys.get(signer.key_id)
    if public is None or not signer.is_pair_of(public):
        raise SettingsError(
            [f"signing_key: {file}: its public key, {signer.key_id}.pem, is not in public_keys"]
        )
    return signer


def create_key_pair(folder: Path, *, ecdsa: bool) -> tuple[str, Path, Path]:
    """A new pair: its id, `{id}.pem`, and `{id}.private.pem`, which only its owner may read.

    Raises `OSError`; an existing file is never overwritten.
    """
    key_id = "K" + secrets.token_hex(7).upper()
    public, private = signing.new_pair(ecdsa=ecdsa)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / f"{key_id}.pem", folder / f"{key_id}{_PRIVATE}"
    for file, pem, mode in ((files[1], private, 0o600), (files[0], public, 0o644)):
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(pem)
    return key_id, *files


def _checked_id(key_id: str) -> str:
    if not _ID.fullmatch(key_id):
        raise ValueError("its name must be {id}.pem, with an id of 1 to 64 letters, digits, - and _")
    return key_id
