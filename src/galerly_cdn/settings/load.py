"""Where does each setting come from? The only reader of the environment.

In falling order: the command line, `GALERLY_{NAME}`, the TOML file, the default of `config`'s table. A
store's endpoint is also taken from where its vendor's tools look for it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import ValidationError, Value, convert
from galerly_cdn.settings.sizes import parse_sizes
from galerly_cdn.settings.table import DESCRIBED, PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class LoadedSettings(Value, frozen=True):
    """The settings, and where each came from: `default`, the file's name, a variable, `--option`."""

    settings: Settings
    origin: dict[str, str]


def load_settings(
    options: Mapping[str, Any] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Settings from options (None: not given) over environment over file over defaults.

    Raises `SettingsError` with one line for every unknown or impossible setting.
    """
    variables = os.environ if environment is None else environment
    layers: list[tuple[str, dict[str, Any]]] = [
        (one, {"store_endpoint": variables[one]}) for one in _ENDPOINTS if variables.get(one)
    ]
    problems: list[str] = []
    if file is not None:
        layers.append((str(file), _read_file(file)))
    layers.append((PREFIX, _read_variables(variables)))
    layers.append(("--", {name: value for name, value in (options or {}).items() if value is not None}))
    values: dict[str, Any] = {}
    origin = {setting.name: "default" for setting in DESCRIBED}
    for place, layer in layers:
        for name, raw in layer.items():
            try:
                values[name] = _checked(name, raw)
                origin[name] = _spelt(place, name)
            except (KeyError, ValueError) as problem:
                problems.append(_sentence(place, name, raw, problem))
    problems.extend(_contradictions(values))
    if problems:
        raise SettingsError(problems)
    return LoadedSettings(Settings(**values), origin)


_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
"""What the vendor's own tools read (AWS SDKs and Tools Reference Guide, "Service-specific endpoints")."""


def _check_prefixes(prefixes: tuple[str, ...]) -> None:
    """Raises `ValueError`; `*/a/smith/*` would match in `b/a/smith/…` too, were `b/a` private as `a` is."""
    for one in prefixes:
        if one != "/" and (not one.strip("/") or one != one.strip("/") or "//" in one):
            raise ValueError(f"{one!r} is no folder: write `clients` or `clients/2026`, `/` for all")
        if any(other != one and (other == "/" or f"/{other}/" in f"/{one}/") for other in prefixes):
            raise ValueError(f"{one!r} holds another prefix: a policy of one would open the other")


def _check_public_urls(public_urls: tuple[str, ...]) -> None:
    for one in public_urls:
        if not _PUBLIC_URL.fullmatch(one):
            raise ValueError(f"{one!r} is no scheme and host in lower case: write `https://cdn.example.com`")


def _check_networks(networks: tuple[str, ...]) -> None:
    for one in networks:
        ipaddress.ip_network(one)


_PUBLIC_URL = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_LISTS: dict[str, Callable[[tuple[str, ...]], object]] = {
    "sizes": parse_sizes,
    "private_prefixes": _check_prefixes,
    "public_urls": _check_public_urls,
    "trusted_proxies": _check_networks,
}
_TYPES = {setting.name: setting.type for setting in DESCRIBED}


def _checked(name: str, raw: object) -> object:
    """`raw` as the setting's type. Raises `KeyError` (unknown) or `ValueError` (impossible)."""
    kind = _TYPES[name]
    check = _LISTS.get(name)
    if check is not None:
        lines = [line for line in raw.split(";") if line.strip()] if isinstance(raw, str) else raw
        listed: tuple[str, ...] = convert(tuple[str, ...], lines)
        check(listed)
        return listed
    return convert(kind, raw)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Settings that are possible alone and not together."""
    defaults = {setting.name: setting.default for setting in DESCRIBED}
    together = {**defaults, **values}
    problems = []
    if together["worker_rss_bytes"] >= together["worker_memory_bytes"]:
        problems.append(
            "worker_rss_bytes must be below worker_memory_bytes: no worker would ever be replaced"
        )
    if together["max_coefficient_bytes"] >= together["worker_memory_bytes"]:
        problems.append(
            "max_coefficient_bytes must be below worker_memory_bytes: allowed originals would fail"
        )
    if bool(together["tls_certificate"]) != bool(together["tls_key"]):
        problems.append("tls_certificate and tls_key: one is of no use without the other")
    if together["queue_bytes"] < together["max_original_bytes"]:
        problems.append("queue_bytes must be at least max_original_bytes: allowed originals could never wait")
    if together["private_prefixes"]:
        problems += [
            f"private_prefixes needs {name}: no signature could be verified"
            for name in ("public_keys", "public_urls")
            if not together[name]
        ]
        if together["browse"]:
            problems.append("browse and private_prefixes: the page would show what is private")
    elif together["public_keys"] and not together["public_urls"]:
        problems.append("public_keys needs public_urls: no signature could be verified")
    return problems


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror}"]) from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise SettingsError([f"{file}: {error}"]) from error


def _read_variables(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in variables.items()
        if name.startswith(PREFIX) and name not in {_CONFIG, ADMIN_TOKEN}
    }


_CONFIG = PREFIX + "CONFIG"
"""Names the TOML file, so it is no setting."""
ADMIN_TOKEN = PREFIX + "ADMIN_TOKEN"
"""A secret, which `galerly-cdn config` must not show, so it is no setting either."""


def admin_token(settings: Settings, environment: Mapping[str, str] | None = None) -> str:
    """What a command shows an admin side: `GALERLY_ADMIN_TOKEN`, else the first token of `admin_token_file`.

    Empty for none. Raises `SettingsError`, which does not repeat it, for what no header can hold.
    """
    variables = os.environ if environment is None else environment
    tokens = _tokens(ADMIN_TOKEN, variables.get(ADMIN_TOKEN, "")) or admin_tokens(settings)
    return tokens[0] if tokens else ""


def admin_tokens(settings: Settings) -> tuple[str, ...]:
    """The tokens in `admin_token_file`, one a line: two while one takes the other's place; none without it.

    Raises `SettingsError`, which repeats none of them.
    """
    if not settings.admin_token_file:
        return ()
    place = f"admin_token_file: {settings.admin_token_file}"
    try:
        text = Path(settings.admin_token_file).read_text("ascii", "surrogateescape")
    except OSError as error:
        raise SettingsError([f"{place}: {error.strerror}"]) from error
    return _tokens(place, text)


def _tokens(place: str, text: str) -> tuple[str, ...]:
    """Raises `SettingsError` for what no header can hold."""
    tokens = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not all(re.fullmatch("[!-~]+", one) for one in tokens):
        raise SettingsError([f"{place}: a token is one word of ASCII"])
    return tokens


def function_memory_bytes(environment: Mapping[str, str] | None = None) -> int:
    """What AWS lets the Lambda function hold that this process is. Raises `KeyError` where it is none."""
    variables = os.environ if environment is None else environment
    return int(variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) * 1024 * 1024


def _spelt(place: str, name: str) -> str:
    if place == PREFIX:
        return PREFIX + name.upper()
    if place == "--":
        return "--" + name.replace("_", "-")
    return place


def _sentence(place: str, name: str, raw: object, problem: Exception) -> str:
    """Where, what was expected, what was got: one line."""
    where = _spelt(place, name) if place in {PREFIX, "--"} else f"{place}: {name}"
    if isinstance(problem, KeyError):
        return f"{where}: there is no setting {name!r}; `galerly-cdn config` lists them all"
    if isinstance(problem, ValidationError):
        expected = str(problem).partition(", got ")[0]
        return f"{where}: {expected[:1].lower()}{expected[1:]}, got {raw!r}"
    return f"{where}: {problem}"
