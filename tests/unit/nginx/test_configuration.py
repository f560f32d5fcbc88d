"""The configuration of a front: what each option and setting makes of it, and what is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn import cli
from galerly_cdn.errors import SettingsError
from galerly_cdn.http.urls import AllowList
from galerly_cdn.nginx.configuration import configuration
from galerly_cdn.nginx.front import Front, check_front
from galerly_cdn.nginx.syntax import escaped, quoted
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings
from tests.support import nginx

if TYPE_CHECKING:
    from pathlib import Path

FRONT = Front(nodes=("10.0.0.1:8000", "[2001:db8::2]:8000"))


def unquoted(word: str) -> str:
    """The word as nginx reads it: ngx_conf_read_token."""
    if not word.startswith('"'):
        return word
    replaced_by = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}
    return re.sub(r"\\([trn\"'\\])", lambda found: replaced_by[found[1]], word[1:-1])


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\t"), max_size=30))
def test_quoted_is_read_by_nginx_as_the_text(text: str) -> None:
    word = quoted(text)
    assert unquoted(word) == text
    assert re.fullmatch(r'"(?:[^"\\\n]|\\.)*"|[^\s"\';{}\\]+', word, re.DOTALL)


@given(st.text(max_size=30))
def test_escaped_matches_the_text_alone(text: str) -> None:
    assert re.fullmatch(escaped(text), text)
    assert not re.fullmatch(escaped(text), f"{text}x")


def test_every_size_and_format_of_the_allow_list_has_its_target() -> None:
    settings = Settings(sizes=("small 10x20 webp=80", "30x30 avif=50"))
    text = configuration(FRONT, settings)
    targets = re.search(r"map \$galerly_segment \$galerly_target \{(.*?)\}", text, re.DOTALL)
    assert targets
    rows = dict(re.findall(r"^\s+(\S+) (\S+);$", targets[1], re.MULTILINE))
    rows.pop("default")
    wanted = AllowList(settings.size_rules).segments().items()
    assert rows == {segment: f"{size}.{form}" if form else size for segment, (size, form) in wanted}


@pytest.mark.parametrize(
    ("front", "settings", "lines"),
    [
        ({}, {}, ["listen 80;", "server_name _;", "server [2001:db8::2]:8000 max_fails=2", "max_conns=256;"]),
        ({}, {}, ["server [2001:db8::2]:8000 max_fails=0 max_conns=256;"]),
        ({"nodes": ("127.0.0.1:1",)}, {}, ["max_conns=4096;", "proxy_next_upstream_tries 1;"]),
        (
            {"nodes": ("unix:/run/a.sock",)},
            {},
            ["server unix:/run/a.sock max_fails=2 fail_timeout=2s max_conns=4096;"],
        ),
        ({"listen": ("[::]:80", "8080")}, {}, ["listen [::]:80;", "listen 8080;"]),
        (
            {"secret_md5": "abc"},
            {},
            ["secure_link abc;", "proxy_pass http://$galerly_self$galerly_self_path;"],
        ),
        (
            {"certificate": "/c", "certificate_key": "/k", "listen": ("443", "8443"), "http3": True},
            {},
            [
                "listen 443 ssl;",
                "listen 443 quic reuseport;",
                "http2 on;",
                """add_header Alt-Svc 'h3=":8443"; ma=86400' always;""",
            ],
        ),
        (
            {"certificate": "/etc/c d.pem", "certificate_key": "/etc/k.pem", "listen": ("443",)},
            {},
            ["listen 443 ssl http2;", 'ssl_certificate "/etc/c d.pem";', "ssl_certificate_key /etc/k.pem;"],
        ),
        ({}, {"public_urls": ("https://cdn.test:8443",)}, ["proxy_set_header Host cdn.test:8443;"]),
        ({}, {"public_urls": ()}, ["proxy_set_header Host localhost;"]),
        ({}, {"browse": True}, ["location = / {", "location /-/ {"]),
        (
            {},
            {"private_prefixes": ("a.b/c",)},
            [r'location ~ "^/resize/[^/]+/a\.b/c(?:/|\z)" {', "auth_request"],
        ),
        ({}, {"private_prefixes": ("/",)}, ['location ~ "^/resize/[^/]+/" {']),
        (
            {},
            {"header_deadline_s": 0.5, "idle_s": 7.5},
            ["client_header_timeout 1s;", "keepalive_timeout 8s;"],
        ),
        ({}, {"allow_origin": ""}, ["timing-allow-origin * always;"]),
    ],
)
def test_option_or_setting_is_in_the_configuration(
    front: dict[str, object], settings: dict[str, object], lines: list[str]
) -> None:
    made = Settings(**settings)  # type: ignore[arg-type]  # the table names fields
    text = configuration(check_front(replaced(FRONT, **front), made), made)
    assert [line for line in lines if line not in text] == []


def test_admin_side_and_gallery_page_are_not_reached_by_default() -> None:
    locations = re.findall(r"location (.*?) \{", configuration(FRONT, Settings(admin_port=8001)))
    reached = [one for one in locations if "/-galerly/" not in one and not one.startswith("@")]
    assert reached == ["/resize/", "/original/", "/"]


@pytest.mark.parametrize(
    ("front", "settings", "problem"),
    [
        ({"nodes": ("10.0.0.1",)}, {}, "--node: '10.0.0.1' is no address"),
        ({"nodes": ("http://10.0.0.1:8000",)}, {}, "is no address"),
        ({"nodes": ("10.0.0.1:0",)}, {}, "is no address"),
        ({"nodes": ("10.0.0.1:65536",)}, {}, "is no address"),
        ({"nodes": ("a:1; include /etc/passwd",)}, {}, "is no address"),
        ({"nodes": ("a:1\n",)}, {}, "is no address"),
        ({"nodes": ("$host:80",)}, {}, "is no address"),
        ({"nodes": ("unix:a.sock",)}, {}, "is no address"),
        ({"nodes": ("unix:/a;b",)}, {}, "is no address"),
        ({"nodes": ("unix:/a b",)}, {}, "is no address"),
        ({"nodes": ("a:1", "a:1")}, {}, "a:1 is given twice"),
        (
            {"nodes": ("a:8001",)},
            {"admin_port": 8001},
            "a:8001 is the admin API: give the port of pictures, 8000",
        ),
        ({"listen": ("80;",)}, {}, "--listen: '80;' is no address"),
        ({"listen": ("443 ssl",)}, {}, "is no address"),
        ({"server_name": "a b"}, {}, "--server-name: 'a b' is no host name"),
        ({"server_name": "~."}, {}, "is no host name"),
        ({"cache_folder": "cache"}, {}, "--cache: 'cache' is no absolute path"),
        ({"cache_folder": "/a;b"}, {}, "is no absolute path"),
        ({"cache_size": "10"}, {}, "--cache: '10' is no size"),
        ({"log": "/var/log/$host"}, {}, "--log:"),
        ({"certificate": "/c"}, {}, "--certificate and --certificate-key belong together"),
        ({"http3": True}, {}, "--http3: HTTP/3 is always encrypted"),
        ({}, {"tls_certificate": "/c"}, "tls_certificate is set"),
        ({}, {"allow_origin": "$host"}, "allow_origin: nginx takes `$`"),
    ],
)
def test_option_that_nginx_could_not_use_is_refused(
    front: dict[str, object], settings: dict[str, object], problem: str
) -> None:
    with pytest.raises(SettingsError) as error:
        check_front(replaced(FRONT, **front), Settings(**settings))  # type: ignore[arg-type]  # as above
    assert len(error.value.problems) == 1
    assert problem in error.value.problems[0]


@pytest.mark.server("nginx")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"browse": True, "allow_origin": "", "resource_policy": "", "public_urls": ("https://cdn.test",)},
        {
            "private_prefixes": ("clients", 'käse "1"', "a'b\\c", "$host", "x{2}", "-;#"),
            "sign_originals": False,
        },
        {"private_prefixes": ("/",)},
        {"sizes": tuple(f"s{number} {number}x{number} webp=80 avif=60" for number in range(1, 200))},
        {"sizes": (f"{'long-name' * 99} 1x1",)},
    ],
)
def test_nginx_accepts_the_configuration(tmp_path: Path, settings: dict[str, object]) -> None:
    made = Settings(**settings)  # type: ignore[arg-type]  # as above
    result = nginx.check(tmp_path, nginx.front_configuration(tmp_path, nginx.free_port(), [1, 2], made))
    assert (result.returncode, "[warn]" in result.stderr) == (0, False), result.stderr


def test_command_prints_the_configuration_and_names_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('sizes = ["only 10x10"]\n')
    options = ["--node", "a:1", "--cache", "/c", "1g", "--log", "/l", "--server-name", "cdn.test"]
    printed = CliRunner().invoke(cli.main, ["nginx", *options, "--config", str(file)])
    front = Front(nodes=("a:1",), cache_folder="/c", cache_size="1g", log="/l", server_name="cdn.test")
    assert (printed.exit_code, printed.stdout) == (0, configuration(front, Settings(sizes=("only 10x10",))))
    secure = CliRunner().invoke(
        cli.main, ["nginx", "--node", "a:1", "--certificate", "/c", "--certificate-key", "/k"]
    )
    assert "listen 443 ssl http2;" in secure.stdout
    without_token = CliRunner().invoke(
        cli.main, ["nginx", "--node", "a:1"], env={"GALERLY_FRONTS": "http://b"}
    )
    assert (without_token.exit_code, without_token.stdout) == (2, "")
    assert "set GALERLY_ADMIN_TOKEN" in without_token.stderr
    wrong = CliRunner().invoke(cli.main, ["nginx", "--node", "a", "--cache", "c", "1"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert [line.split(":")[1] for line in wrong.stderr.splitlines()] == [" --node", " --cache", " --cache"]
