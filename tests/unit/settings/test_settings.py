"""Tests of loading the settings: sources, precedence, parsed values, and one line for every problem."""

from __future__ import annotations

import enum
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import SettingsError
from galerly_cdn.model import Format, Size, SizeRule
from galerly_cdn.serialization import replaced
from galerly_cdn.settings import load, sizes
from galerly_cdn.settings.sizes import parse_size
from galerly_cdn.settings.table import DESCRIBED, Settings

if TYPE_CHECKING:
    from galerly_cdn.serialization import FieldDescription

NAMES = [setting.name for setting in DESCRIBED]


def problems(
    variables: dict[str, str], *, file: Path | None = None, options: dict[str, Any] | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load.load_settings(options, file, variables)
    return raised.value.problems


def test_defaults_are_valid() -> None:
    loaded = load.load_settings(environment={})
    assert loaded.settings == Settings()
    assert set(loaded.origin.values()) == {"default"}
    assert list(loaded.origin) == NAMES


@pytest.mark.parametrize("setting", DESCRIBED, ids=lambda setting: setting.name)
def test_every_setting_has_a_description(setting: FieldDescription) -> None:
    assert setting.description.endswith(".")
    assert setting.description[0].isupper() or setting.description[0] == "`"


@pytest.mark.parametrize("name", NAMES)
def test_every_default_can_be_given_as_a_variable(name: str) -> None:
    default = getattr(Settings(), name)
    text = ";".join(default) if isinstance(default, tuple) else str(default)
    variable = f"GALERLY_{name.upper()}"
    loaded = load.load_settings(environment={variable: text})
    assert loaded.settings == Settings()
    assert loaded.origin[name] == variable


def test_options_override_variables_override_file_overrides_defaults(tmp_path: Path) -> None:
    file = tmp_path / "galerly.toml"
    file.write_text('host = "file"\nport = 1\nworkers = 1\nsizes = ["10x10"]\n')
    loaded = load.load_settings(
        {"host": "option", "port": None}, file, {"GALERLY_HOST": "variable", "GALERLY_PORT": "2", "HOST": "x"}
    )
    assert (loaded.settings.host, loaded.settings.port, loaded.settings.workers) == ("option", 2, 1)
    assert loaded.settings.sizes == ("10x10",)
    assert [loaded.origin[name] for name in ("host", "port", "workers", "sizes", "browse")] == [
        "--host",
        "GALERLY_PORT",
        str(file),
        str(file),
        "default",
    ]


@pytest.mark.parametrize(
    ("variables", "endpoint", "origin"),
    [
        ({}, "", "default"),
        ({"AWS_ENDPOINT_URL": "http://a"}, "http://a", "AWS_ENDPOINT_URL"),
        (
            {"AWS_ENDPOINT_URL_S3": "http://b", "AWS_ENDPOINT_URL": "http://a"},
            "http://b",
            "AWS_ENDPOINT_URL_S3",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://a", "GALERLY_STORE_ENDPOINT": "http://c"},
            "http://c",
            "GALERLY_STORE_ENDPOINT",
        ),
        ({"AWS_ENDPOINT_URL": "http://a", "GALERLY_STORE_ENDPOINT": ""}, "", "GALERLY_STORE_ENDPOINT"),
        ({"AWS_ENDPOINT_URL": ""}, "", "default"),
    ],
)
def test_store_endpoint_is_read_from_the_variables_of_aws_tools(
    variables: dict[str, str], endpoint: str, origin: str
) -> None:
    loaded = load.load_settings(environment=variables)
    assert (loaded.settings.store_endpoint, loaded.origin["store_endpoint"]) == (endpoint, origin)


def test_list_in_a_variable_may_have_spaces_around_its_items() -> None:
    """A prefix with a space in front names another folder, and the one that is meant would be public."""
    variables = {
        "GALERLY_PRIVATE_PREFIXES": "clients; studio/2026 ;",
        "GALERLY_PUBLIC_URLS": "https://one.example ; https://two.example",
        "GALERLY_PUBLIC_KEYS": "keys",
    }
    settings = load.load_settings(environment=variables).settings
    assert settings.private_prefixes == ("clients", "studio/2026")
    assert settings.public_urls == ("https://one.example", "https://two.example")


def test_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GALERLY_PORT", "4711")
    monkeypatch.setenv("GALERLY_CONFIG", "read by the command line")
    assert load.load_settings().settings.port == 4711


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("GALERLY_PORT", "x", "GALERLY_PORT: expected `int`, got 'x'"),
        ("GALERLY_PORT", "", "GALERLY_PORT: expected `int`, got ''"),
        ("GALERLY_PORT", "-1", "GALERLY_PORT: expected `int` >= 0, got '-1'"),
        ("GALERLY_PORT", "65536", "GALERLY_PORT: expected `int` <= 65535, got '65536'"),
        ("GALERLY_PORT", "80.5", "GALERLY_PORT: expected `int`, got '80.5'"),
        ("GALERLY_HOST", "", "GALERLY_HOST: expected `str` of length >= 1, got ''"),
        ("GALERLY_WORKERS", "257", "GALERLY_WORKERS: expected `int` <= 256, got '257'"),
        ("GALERLY_MAX_MEGAPIXELS", "0", "GALERLY_MAX_MEGAPIXELS: expected `int` >= 1, got '0'"),
        (
            "GALERLY_MAX_FRAMES",
            "9" * 20,
            f"GALERLY_MAX_FRAMES: expected `int` <= {2**53 - 1}, got '{'9' * 20}'",
        ),
        ("GALERLY_IDLE_S", "0", "GALERLY_IDLE_S: expected `float` > 0.0, got '0'"),
        ("GALERLY_IDLE_S", "nan", "GALERLY_IDLE_S: expected `float` > 0.0, got 'nan'"),
        ("GALERLY_IDLE_S", "inf", "GALERLY_IDLE_S: expected `float` <= 604800.0, got 'inf'"),
        ("GALERLY_DRAIN_DELAY_S", "-1", "GALERLY_DRAIN_DELAY_S: expected `float` >= 0.0, got '-1'"),
        ("GALERLY_DRAIN_DELAY_S", "nan", "GALERLY_DRAIN_DELAY_S: expected `float` >= 0.0, got 'nan'"),
        (
            "GALERLY_PROXY_PROTOCOL",
            "unix:; on",
            "GALERLY_PROXY_PROTOCOL: 'on' does not appear to be an IPv4 or IPv6 network",
        ),
        (
            "GALERLY_TRUSTED_PROXIES",
            "unix:/run/a.sock",
            "GALERLY_TRUSTED_PROXIES: 'unix:/run/a.sock' does not appear to be an IPv4 or IPv6 network",
        ),
        ("GALERLY_BROWSE", "maybe", "GALERLY_BROWSE: expected `bool`, got 'maybe'"),
        ("GALERLY_BROWSE", "a\nb", "GALERLY_BROWSE: expected `bool`, got 'a\\nb'"),
        (
            "GALERLY_ALLOW_ORIGIN",
            "*\r\nSet-Cookie: a",
            r"GALERLY_ALLOW_ORIGIN: expected `str` matching regex '^[ -~]*\\Z', got '*\r\nSet-Cookie: a'",
        ),
        (
            "GALERLY_RESOURCE_POLICY",
            "none",
            (
                "GALERLY_RESOURCE_POLICY: expected `str` matching regex "
                r"'^(cross-origin|same-site|same-origin)?\\Z', got 'none'"
            ),
        ),
        (
            "GALERLY_NOPE",
            "1",
            "GALERLY_NOPE: there is no setting 'nope'; `galerly-cdn config` lists them all",
        ),
        ("GALERLY_", "1", "GALERLY_: there is no setting ''; `galerly-cdn config` lists them all"),
        ("GALERLY_SIZES", "", "GALERLY_SIZES: at least one size is needed"),
        ("GALERLY_SIZES", " ; ", "GALERLY_SIZES: at least one size is needed"),
        ("GALERLY_SIZES", "1x1;1x1", "GALERLY_SIZES: listed twice: 1x1"),
        ("GALERLY_SIZES", "a 1x1; a 2x2", "GALERLY_SIZES: listed twice: a"),
    ],
    ids=lambda value: value[:40],
)
def test_unknown_or_invalid_setting_is_one_line(variable: str, value: str, line: str) -> None:
    assert problems({variable: value}) == [line]


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "port.toml"  # a file's name must not stand in for the setting's
    file.write_text("port = -1\nidle = 3\nhost = 5\nsizes = 7\n[table]\na = 1\n")
    assert problems({"GALERLY_PORT": "y"}, file=file, options={"workers": -1}) == [
        f"{file}: port: expected `int` >= 0, got -1",
        f"{file}: idle: there is no setting 'idle'; `galerly-cdn config` lists them all",
        f"{file}: host: expected `str`, got 5",
        f"{file}: sizes: expected `array`, got 7",
        f"{file}: table: there is no setting 'table'; `galerly-cdn config` lists them all",
        "GALERLY_PORT: expected `int`, got 'y'",
        "--workers: expected `int` >= 0, got -1",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file or directory"),
        (b"port = ", "Invalid value"),
        (b"port = 1\nport = 2\n", "overwrite"),
        (b"\xff", "utf-8"),
    ],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "galerly.toml"
    if content is not None:
        file.write_bytes(content)
    (line,) = problems({}, file=file)
    assert line.startswith(f"{file}: ")
    assert expected in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"GALERLY_WORKER_RSS_BYTES": str(2**31)}, ("worker_rss_bytes", "worker_memory_bytes")),
        ({"GALERLY_WORKER_MEMORY_BYTES": str(2**29)}, ("max_coefficient_bytes", "worker_memory_bytes")),
        ({"GALERLY_QUEUE_BYTES": "1000"}, ("queue_bytes", "max_original_bytes")),
        ({"GALERLY_WARM_SIZES": "small;huge"}, ("warm_sizes", "'huge' is no size of the allow-list: tiny, ")),
        ({"GALERLY_WARM_SIZES": "400x400;small"}, ("warm_sizes", "'small' is listed twice")),
        ({"GALERLY_SIZES": "a 10x10", "GALERLY_WARM_SIZES": "tiny"}, ("warm_sizes", "'tiny' is no size")),
    ],
)
def test_contradicting_settings_are_both_named(variables: dict[str, str], named: tuple[str, str]) -> None:
    (line,) = problems(variables)
    assert all(name in line for name in named)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "host": st.text(st.characters(codec="utf-8"), min_size=1),
            "port": st.integers(0, 65535),
            "renditions": st.text(st.characters(codec="utf-8")),
            "memory_cache_bytes": st.integers(0, 2**53 - 1),
            "idle_s": st.floats(0.001, 604_800),
            "browse": st.booleans(),
            "sizes": st.sets(st.integers(1, 16_383), min_size=1, max_size=5).map(
                lambda sides: [f"{side}x{side} webp=80" for side in sorted(sides)]
            ),
        },
    )
)
def test_values_from_file_and_from_variables_are_equal(values: dict[str, Any]) -> None:
    texts = {
        f"GALERLY_{name.upper()}": ";".join(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }
    loaded = load.load_settings(environment=texts)
    for name, value in values.items():
        given_value = tuple(value) if isinstance(value, list) else value
        assert getattr(loaded.settings, name) == given_value
    assert load.load_settings(values, environment={}).settings == loaded.settings


@given(
    host=st.text(st.characters(codec="utf-8"), min_size=1),
    sizes=st.sampled_from([Settings().sizes, ("cover 10x10 webp=80", "20x20")]),
    idle_s=st.floats(0.001, 604_800),
    browse=st.booleans(),
)
def test_settings_file_is_read_as_the_same_settings(**values: Any) -> None:  # noqa: ANN401 - of any setting
    settings = replaced(Settings(), **values)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "settings.toml")
        file.write_bytes(load.settings_file(settings))
        assert load.load_settings(file=file, environment={}).settings == settings


def test_settings_file_of_a_path_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(SettingsError, match="UTF-8"):
        load.settings_file(Settings(store="photographs-\udcff"))


def test_environment_of_a_command_has_neither_settings_nor_token() -> None:
    variables = {"GALERLY_ADMIN_TOKEN": "s3cret", "GALERLY_CONFIG": "x", "GALERLY_HOST": "y", "HOME": "/home"}
    assert load.command_environment({"TMPDIR": "z"}, variables) == {"HOME": "/home", "TMPDIR": "z"}


# sizes


@pytest.mark.parametrize(
    ("line", "size", "name", "qualities"),
    [
        ("800x600", Size(800, 600), None, {}),
        ("thumbnail 800x600", Size(800, 600), "thumbnail", {}),
        ("800x600 jpeg=70 webp=60 avif=50", Size(800, 600), None, {"jpeg": 70, "webp": 60, "avif": 50}),
        ("  a-1\t1x16383  avif=100 ", Size(1, 16383), "a-1", {"avif": 100}),
    ],
)
def test_size_line_is_parsed(line: str, size: Size, name: str | None, qualities: dict[str, int]) -> None:
    chosen = {Format(form): quality for form, quality in qualities.items()}
    assert parse_size(line) == SizeRule(size, name, {Format.JPEG: 85, Format.PNG: 100} | chosen)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "expected `name WxH"),
        ("thumbnail", "expected `name WxH"),
        ("a b 1x1", "expected `name WxH"),
        ("a 1X1", "expected `name WxH"),
        ("a 1x", "expected `name WxH"),
        ("a -1x1", "expected `name WxH"),
        ("a ٨x٨", "expected `name WxH"),
        ("A 1x1", "lower-case"),
        ("9 1x1", "lower-case"),
        ("a/b 1x1", "lower-case"),
        ("a.b 1x1", "lower-case"),
        ("é 1x1", "lower-case"),
        ("0x1", "1 to 16383 px"),
        ("1x16384", "1 to 16383 px"),
        ("1x1 webp", "1 to 100"),
        ("1x1 webp=", "1 to 100"),
        ("1x1 webp=0", "1 to 100"),
        ("1x1 webp=101", "1 to 100"),
        ("1x1 webp=8.5", "1 to 100"),
        ("1x1 webp=٨٥", "1 to 100"),
        ("1x1 webp=" + "9" * 5000, "1 to 100"),
        ("1x1 png=50", "1 to 100"),
        ("1x1 gif=50", "1 to 100"),
        ("1x1 webp=80 webp=90", "two qualities"),
    ],
    ids=lambda value: value[:40],
)
def test_invalid_size_line_says_what_was_expected(line: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as raised:
        parse_size(line)
    assert "got " in str(raised.value)


def test_size_line_with_format_added_to_the_enum_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected jpeg, webp or avif `=` a quality of 1 to 100"):
        parse_size("1x1 xyz=80")

    class MoreFormats(enum.StrEnum):
        JPEG = "jpeg"
        PNG = "png"
        XYZ = "xyz"

        @property
        def has_quality(self) -> bool:
            return self.value != "png"

    monkeypatch.setattr(sizes, "Format", MoreFormats)
    assert parse_size("1x1 xyz=80").qualities == {"jpeg": 85, "png": 100, "xyz": 80}
    with pytest.raises(ValueError, match="expected jpeg or xyz `=` a quality of 1 to 100"):
        parse_size("1x1 webp=80")


def test_limits_are_in_pixels() -> None:
    assert Settings(max_megapixels=3).limits.max_pixels == 3_000_000


PARSED = [
    "limits",
    "size_rules",
    "all_targets",
    "warm_targets",
    "trusted_networks",
    "proxy_protocol_networks",
]


@pytest.mark.parametrize("name", PARSED)
def test_setting_is_parsed_once(name: str) -> None:
    settings = Settings(trusted_proxies=("192.0.2.0/24",))
    assert getattr(settings, name) is getattr(settings, name)
    assert settings == Settings(trusted_proxies=("192.0.2.0/24",))


def test_setting_of_replaced_settings_is_parsed_anew() -> None:
    settings = Settings(sizes=("10x10",))
    assert settings.size_rules[0].size == Size(10, 10)
    assert replaced(settings, sizes=("20x20",)).size_rules[0].size == Size(20, 20)


def test_targets_are_every_format_of_every_size() -> None:
    settings = Settings(sizes=("10x10 webp=80",))
    names = [str(target) for target in settings.all_targets]
    assert names == ["10x10", "10x10.jpeg", "10x10.png", "10x10.webp"]
    assert [str(target) for target in settings.warm_targets] == ["10x10", "10x10.webp"]


@pytest.mark.parametrize(
    ("allowed", "warm_sizes", "warmed"),
    [
        (Settings().sizes, (), ["150x150", "400x400", "800x600", "2000x2000"]),
        (("a 10x10", "20x20", "b 30x30"), (), ["10x10", "30x30"]),
        (("10x10", "20x20"), (), ["10x10", "20x20"]),
        (("a 10x10", "20x20", "b 30x30"), ("20x20", "a"), ["10x10", "20x20"]),
    ],
)
def test_warmed_sizes_are_the_chosen_else_the_named_else_all(
    allowed: tuple[str, ...], warm_sizes: tuple[str, ...], warmed: list[str]
) -> None:
    settings = load.load_settings({"sizes": allowed, "warm_sizes": warm_sizes}, environment={}).settings
    targets = [target for rule in settings.size_rules for target in rule.targets]
    expected = [str(one) for one in targets if str(one.size) in warmed]
    assert [str(one) for one in settings.warm_targets] == sorted(expected)


def test_trusted_proxies_are_networks() -> None:
    trusted = Settings(trusted_proxies=("192.0.2.0/24", "2001:db8::/32")).trusted_networks
    assert all(one in trusted for one in ("192.0.2.255", "::ffff:192.0.2.1", "2001:db8::1"))
    assert not any(one in trusted for one in ("192.0.3.0", "2001:db9::1", "unix:", "", "192.0.2.0/24", "cdn"))


def test_trusted_proxies_with_unix_hold_clients_on_unix_sockets() -> None:
    trusted = Settings(trusted_proxies=("unix:", "192.0.2.0/24")).trusted_networks
    assert "unix:" in trusted
    assert "192.0.2.1" in trusted
    assert "unix:/run/a.sock" not in trusted


# the admin side's token


def test_token_is_read_from_its_variable_else_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("first-of-the-file\nsecond\n")
    settings = Settings(admin_token_file=str(file))
    assert load.admin_token(settings, {"GALERLY_ADMIN_TOKEN": "given"}) == "given"
    assert load.admin_token(settings, {}) == "first-of-the-file"
    assert load.admin_token(Settings(), {}) == ""
    assert load.admin_token(settings, {"GALERLY_ADMIN_TOKEN": "given\n"}) == "given"
    for content in (b"", b" \n"):
        file.write_bytes(content)
        assert load.admin_token(settings, {}) == ""
    for broken in (tmp_path / "none", tmp_path):
        with pytest.raises(SettingsError, match="admin_token_file"):
            load.admin_token(Settings(admin_token_file=str(broken)), {})


@pytest.mark.parametrize("token", ["s3cret word", "s3crét", "s3cret\x00", "s3cret\udcff"])
def test_token_that_no_header_can_hold_is_refused_and_not_repeated(token: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(token.encode("utf-8", "surrogateescape"))
    for settings, variables in (
        (Settings(), {"GALERLY_ADMIN_TOKEN": token}),
        (Settings(admin_token_file=str(file)), {}),
    ):
        with pytest.raises(SettingsError, match="one word of ASCII") as raised:
            load.admin_token(settings, variables)
        assert "s3cr" not in str(raised.value)


def test_token_is_not_among_the_settings() -> None:
    loaded = load.load_settings(environment={"GALERLY_ADMIN_TOKEN": "s3cret", "GALERLY_CONFIG": "x"})
    assert "s3cret" not in str(loaded)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8001", "https://admin.example.com/", "http://[::1]:80"]
)
def test_admin_address_of_scheme_and_host_is_accepted(address: str) -> None:
    assert load.load_settings({"admin": address}).settings.admin == address


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8001", "ftp://x", "http://", "http://u:p@x", "http://x/y", "http://x?a"]
)
def test_other_admin_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="--admin: expected"):
        load.load_settings({"admin": address})
