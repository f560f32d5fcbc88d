"""Loads the settings from options, environment and file. The only reader of the environment.

In falling order of precedence: the command line, `GALERLY_{NAME}`, the TOML file, the default in `table`.
The store's endpoint is also read from the variables of AWS's own tools.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import ValidationError, Value, convert, fields_of, to_json
from galerly_cdn.settings import cloud_variables
from galerly_cdn.settings.expire import parse_expire
from galerly_cdn.settings.sizes import choose_sizes, parse_sizes
from galerly_cdn.settings.table import DESCRIBED, PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping


class LoadedSettings(Value, frozen=True):
    """The settings, and the source of each: `default`, the file's name, a variable or `--option`."""

    settings: Settings
    origin: dict[str, str]


def load_settings(
    options: Mapping[str, Any] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Load the settings; options (None: not given) override the environment, the file and the defaults.

    Raises `SettingsError` with one line for every unknown or invalid setting.
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
    for source, layer in layers:
        for name, raw in layer.items():
            try:
                values[name] = _checked(name, raw)
                origin[name] = _source_name(source, name)
            except (KeyError, ValueError) as problem:
                problems.append(_problem_line(source, name, raw, problem))
    problems.extend(_contradictions(values))
    if problems:
        raise SettingsError(problems)
    return LoadedSettings(Settings(**values), origin)


_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
"""The variables of AWS's own tools, the specific one last, which has precedence.

(AWS SDKs and Tools Reference Guide, "Service-specific endpoints".)
"""


def _check_prefixes(prefixes: tuple[str, ...]) -> None:
    """Raises `ValueError` for a prefix that is no folder, or that is inside another.

    If `a` and `b/a` were both private, a policy's `*/a/smith/*` would match in `b/a/smith/…` too.
    """
    for one in prefixes:
        if one != "/" and (not one.strip("/") or one != one.strip("/") or "//" in one):
            raise ValueError(
                f"{one!r} is no folder: write `clients` or `clients/2026`, or `/` for all folders"
            )
        if any(other != one and (other == "/" or f"/{other}/" in f"/{one}/") for other in prefixes):
            raise ValueError(f"{one!r} holds another prefix: a policy for one would also allow the other")


def _check_public_urls(public_urls: tuple[str, ...]) -> None:
    for one in public_urls:
        if not _PUBLIC_URL.fullmatch(one):
            raise ValueError(f"{one!r} is no scheme and host in lower case: write `https://cdn.example.com`")


def _check_addresses(addresses: tuple[str, ...]) -> None:
    for one in addresses:
        if not _ENDPOINT.fullmatch(one) or urlsplit(one).path.strip("/"):
            raise ValueError(
                f"{_without_password(one)!r} is no address: write `http://10.0.0.8`, or with a port "
                "`http://10.0.0.8:8001`"
            )


def _check_endpoint(endpoint: str) -> None:
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise ValueError(
            f"{_without_password(endpoint)!r} is no address of a server: write `https://s3.example.com`, or "
            "`http://…` for a server without TLS"
        )


def _without_password(address: str) -> str:
    """An address without a user's name and password: an error must not show them."""
    return re.sub(r"(://)[^/]*@", r"\1…@", address)


def _check_networks(networks: tuple[str, ...]) -> None:
    for one in networks:
        ipaddress.ip_network(one)


_PUBLIC_URL = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_ENDPOINT = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
    r"(/[A-Za-z0-9._~-]+)*/?"
)
_LISTS: dict[str, Callable[[tuple[str, ...]], object]] = {
    "sizes": parse_sizes,
    "warm_sizes": tuple,  # checked together with the sizes
    "expire": parse_expire,
    "private_prefixes": _check_prefixes,
    "public_urls": _check_public_urls,
    "trusted_proxies": _check_networks,
    "fronts": _check_addresses,
    "nodes": _check_addresses,
}
_TYPES = {setting.name: setting.type for setting in DESCRIBED}


def _checked(name: str, raw: object) -> object:
    """`raw` as the setting's type. Raises `KeyError` (unknown) or `ValueError` (invalid)."""
    setting_type = _TYPES[name]
    check = _LISTS.get(name)
    if check is not None:
        lines = [line.strip() for line in raw.split(";") if line.strip()] if isinstance(raw, str) else raw
        items: tuple[str, ...] = convert(tuple[str, ...], lines)
        check(items)
        return items
    value = convert(setting_type, raw)
    if name == "store_endpoint":
        _check_endpoint(value)
    return value


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """A line for every combination of settings that are valid alone and not together."""
    defaults = {setting.name: setting.default for setting in DESCRIBED}
    combined = {**defaults, **values}
    problems = []
    try:
        choose_sizes(parse_sizes(combined["sizes"]), combined["warm_sizes"])
    except ValueError as problem:
        problems.append(f"warm_sizes: {problem}")
    if combined["worker_rss_bytes"] >= combined["worker_memory_bytes"]:
        problems.append(
            "worker_rss_bytes must be below worker_memory_bytes: no worker would ever be replaced"
        )
    if combined["max_coefficient_bytes"] >= combined["worker_memory_bytes"]:
        problems.append(
            "max_coefficient_bytes must be below worker_memory_bytes: allowed originals would fail"
        )
    if bool(combined["tls_certificate"]) != bool(combined["tls_key"]):
        problems.append("tls_certificate and tls_key: give both or neither")
    if combined["queue_bytes"] < combined["max_original_bytes"]:
        problems.append("queue_bytes must be at least max_original_bytes: allowed originals could never wait")
    if combined["private_prefixes"]:
        problems += [
            f"private_prefixes needs {name}: no signature could be verified"
            for name in ("public_keys", "public_urls")
            if not combined[name]
        ]
        if combined["browse"]:
            problems.append("browse and private_prefixes: the gallery page would show private photographs")
    elif combined["public_keys"] and not combined["public_urls"]:
        problems.append("public_keys needs public_urls: no signature could be verified")
    if combined["signing_key"] and not combined["public_keys"]:
        problems.append("signing_key needs public_keys: no signature could be verified")
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


def settings_file(settings: Settings) -> bytes:
    """A TOML file with every setting, the inverse of reading one.

    JSON's strings, numbers and arrays are TOML's too, except that TOML escapes DEL. Raises `SettingsError`
    for a path that is not UTF-8.
    """
    try:
        lines = [f"{name} = ".encode() + to_json(value) for name, value in fields_of(settings).items()]
    except UnicodeEncodeError as error:
        raise SettingsError(["a setting is not UTF-8"]) from error
    return b"".join(line.replace(b"\x7f", b"\\u007f") + b"\n" for line in lines)


def command_environment(
    changes: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a command that this process starts: its own without settings and without a token.

    The command gets its settings in a file, over which the variables would take precedence.
    """
    variables = os.environ if environment is None else environment
    return {**{name: value for name, value in variables.items() if not name.startswith(PREFIX)}, **changes}


_CONFIG = PREFIX + "CONFIG"
"""Names the TOML file, and is therefore no setting."""
ADMIN_TOKEN = PREFIX + "ADMIN_TOKEN"
"""A secret. It is no setting, because `galerly-cdn config` shows the settings."""


def admin_token(settings: Settings, environment: Mapping[str, str] | None = None) -> str:
    """The token that a command sends to an admin API; empty for none.

    It is `GALERLY_ADMIN_TOKEN`, else the first token of `admin_token_file`. Raises `SettingsError` for what
    no header can hold; the error does not repeat the token.
    """
    variables = os.environ if environment is None else environment
    tokens = _tokens(ADMIN_TOKEN, variables.get(ADMIN_TOKEN, "")) or admin_tokens(settings)
    return tokens[0] if tokens else ""


def admin_tokens(settings: Settings) -> tuple[str, ...]:
    """The tokens that an admin API accepts: each line of `admin_token_file`, none without such a file.

    The file holds two tokens while one replaces the other. Raises `SettingsError`, which repeats no token.
    """
    if not settings.admin_token_file:
        return ()
    source = f"admin_token_file: {settings.admin_token_file}"
    try:
        text = Path(settings.admin_token_file).read_text("ascii", "surrogateescape")
    except OSError as error:
        raise SettingsError([f"{source}: {error.strerror}"]) from error
    return _tokens(source, text)


def _tokens(source: str, text: str) -> tuple[str, ...]:
    """Raises `SettingsError` for what no header can hold."""
    tokens = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not all(re.fullmatch("[!-~]+", one) for one in tokens):
        raise SettingsError([f"{source}: a token is one word of ASCII"])
    return tokens


def prepare_cloud_variables(address: str, environment: MutableMapping[str, str] | None = None) -> None:
    """Remove empty variables of the clouds' tools, as those tools do, and check the others.

    The library of remote stores reads them itself, and takes an empty credential for one. Raises
    `SettingsError`.
    """
    variables = os.environ if environment is None else environment
    for name in [name for name, value in variables.items() if not value]:
        if name.startswith(cloud_variables.PREFIXES):
            del variables[name]
    problems = cloud_variables.problems(address, variables)
    if problems:
        raise SettingsError(problems)


def function_memory_bytes(environment: Mapping[str, str] | None = None) -> int:
    """The memory of the Lambda function that this process runs in. Raises `KeyError` outside Lambda."""
    variables = os.environ if environment is None else environment
    return int(variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) * 1024 * 1024


def rendition_days(environment: Mapping[str, str] | None = None) -> int:
    """The days after which the bucket's lifecycle deletes renditions. Raises `KeyError` outside Lambda."""
    variables = os.environ if environment is None else environment
    return int(variables["RENDITION_DAYS"])


def _source_name(source: str, name: str) -> str:
    """The variable, the option or the file that a setting came from."""
    if source == PREFIX:
        return PREFIX + name.upper()
    if source == "--":
        return "--" + name.replace("_", "-")
    return source


def _problem_line(source: str, name: str, raw: object, problem: Exception) -> str:
    """One line: the source, what was expected, what was got."""
    where = _source_name(source, name) if source in {PREFIX, "--"} else f"{source}: {name}"
    if isinstance(problem, KeyError):
        return f"{where}: there is no setting {name!r}; `galerly-cdn config` lists them all"
    if isinstance(problem, ValidationError):
        expected = str(problem).partition(", got ")[0]
        return f"{where}: {expected[:1].lower()}{expected[1:]}, got {raw!r}"
    return f"{where}: {problem}"
