"""Private galleries: signed and unsigned requests, logs, settings, commands and links."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from galerly_cdn import cli
from galerly_cdn.access import keys
from galerly_cdn.access.policy import Policy, gallery_resource
from galerly_cdn.access.signing import Signer, Verifier, new_pair, public_key
from galerly_cdn.errors import SettingsError
from galerly_cdn.http.client_address import client_address
from galerly_cdn.links import Links
from galerly_cdn.settings import load
from galerly_cdn.settings.networks import NO_CLIENTS
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_cdn import InMemoryCdn

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = 1_700_000_000  # of the in-memory CDN's clock
HOST = "https://cdn.test"
PATH = "/resize/small/clients/smith/1.jpg"
PUBLIC, PRIVATE = new_pair(ecdsa=True)
SIGNER = Signer("K1", PRIVATE)
SETTINGS = Settings(
    private_prefixes=("clients",), public_keys="k", public_urls=(HOST,), trusted_proxies=("192.0.2.0/24",)
)


def private_cdn(settings: Settings = SETTINGS) -> InMemoryCdn:
    """With two photographs under the private prefix, and a public one."""
    cdn = InMemoryCdn(settings=settings)
    for key in ("clients/smith/1.jpg", "clients/jones/1.jpg", "public/1.jpg"):
        cdn.originals.put(key)
    cdn.edge = cdn.edge_with(Verifier({"K1": public_key(PUBLIC)}, [HOST]))
    return cdn


def query(policy: Policy | None = None) -> bytes:
    signed_policy = policy or Policy(resource=HOST + PATH, expires_s=NOW_S + 60)
    return SIGNER.url(HOST + PATH, signed_policy).partition("?")[2].encode()


async def test_signed_host_is_not_taken_from_request_headers() -> None:
    cdn = private_cdn()
    other_host = Signer("K1", PRIVATE).url("https://evil.test" + PATH, expires_s=NOW_S + 60).partition("?")[2]
    for headers in (
        [(b"host", b"evil.test")],
        [(b"x-forwarded-host", b"evil.test"), (b"x-forwarded-proto", b"https")],
        [(b"forwarded", b"host=evil.test;proto=https")],
        [(b"x-original-url", PATH.encode()), (b"x-rewrite-url", PATH.encode())],
    ):
        assert (await cdn.ask(PATH, query=query(), extra=headers)).status == 200
        assert (await cdn.ask(PATH, query=other_host.encode(), extra=headers)).code == "signature-invalid"
        assert (await cdn.ask(PATH, extra=headers)).code == "signature-required"


async def test_unsigned_request_never_reaches_the_store() -> None:
    cdn = private_cdn()
    for path in (PATH, PATH.replace("1.jpg", "missing.jpg"), PATH.replace("smith", "nobody")):
        answer = await cdn.ask(path)
        assert (answer.status, answer.code) == (403, "signature-required")
        assert "cache-status" not in answer.headers
    assert cdn.renditions.gets == cdn.renderer.renders == 0


EVERY_KIND = {
    "a miss": ("GET", b"accept", b"*/*", 200),
    "a hit": ("GET", b"accept", b"*/*", 200),
    "a 304": ("GET", b"if-none-match", b"*", 304),
    "a range": ("GET", b"range", b"bytes=0-0", 206),
    "a range outside": ("GET", b"range", b"bytes=99999-", 416),
    "a head": ("HEAD", b"accept", b"*/*", 200),
    "another format": ("GET", b"accept", b"image/avif", 200),
}
REFUSED = {
    "missing": (b"", "signature-required"),
    "expired": (query(Policy(resource=HOST + PATH, expires_s=NOW_S)), "signature-expired"),
    "altered": (query().replace(b"Expires=1", b"Expires=2"), "signature-invalid"),
    "of another": (query(Policy(resource=HOST + PATH + "x", expires_s=NOW_S + 60)), "signature-invalid"),
}


async def test_every_kind_of_response_requires_a_signature() -> None:
    """Memory and store are not revealed without one, and one signature is valid for GET and HEAD."""
    cdn = private_cdn()
    for name, (method, header, value, status) in EVERY_KIND.items():
        sent = [(header, value)]
        for unsigned, code in REFUSED.values():
            answer = await cdn.ask(PATH, method, query=unsigned, extra=sent)
            assert answer.status == 403, name
            assert answer.headers["cache-control"] == "no-store"
            assert "etag" not in answer.headers
            assert cdn.records[-1].reason == code
        answer = await cdn.ask(PATH, method, query=query(), extra=sent)
        assert answer.status == status, name
        assert answer.headers["cache-control"] == ("no-store" if status == 416 else "private, max-age=3600")
        assert "access-control-allow-origin" not in answer.headers


async def test_expired_signature_is_refused_for_a_picture_in_memory() -> None:
    cdn = private_cdn()
    assert (await cdn.ask(PATH, query=query())).status == 200
    assert (await cdn.ask(PATH, query=query())).headers["cache-status"] == "galerly-cdn; hit"
    expired = Policy(resource=HOST + PATH, expires_s=NOW_S)
    assert (await cdn.ask(PATH, query=query(expired))).code == "signature-expired"


@pytest.mark.parametrize(
    ("path", "signed", "status", "reason"),
    [
        (PATH, query(), 204, ""),
        (PATH.replace("1.jpg", "none.jpg"), b"", 403, "signature-required"),
        *((PATH, unsigned, 403, reason) for unsigned, reason in REFUSED.values()),
        ("/resize/small/public/1.jpg", b"", 204, ""),
        ("/resize/small/clients/smith/2/1.jpg", query(), 403, "forbidden"),
        ("/resize/1x1/clients/smith/1.jpg", query(), 403, "forbidden"),
        ("/resize/small//clients", query(), 403, "forbidden"),
        ("/original/public/1.jpg", b"", 403, "signature-required"),
        ("/authorize" + PATH, query(), 403, "forbidden"),
        ("x", query(), 403, "forbidden"),
        ("", query(), 403, "forbidden"),
    ],
)
async def test_authorize_answers_204_or_403_and_reads_no_store(
    path: str, signed: bytes, status: int, reason: str
) -> None:
    cdn = private_cdn()
    answer = await cdn.ask(f"/authorize{path}", query=signed)
    assert (answer.status, cdn.records[-1].reason) == (status, reason)
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    assert cdn.renditions.gets == cdn.renderer.renders == 0


async def test_signed_response_differs_from_the_public_one_in_cache_control_only() -> None:
    cdn, plain = private_cdn(), InMemoryCdn()
    plain.originals.put("clients/smith/1.jpg")
    signed, public = await cdn.ask(PATH, query=query()), await plain.ask(PATH)
    assert (signed.body, signed.headers["etag"]) == (public.body, public.headers["etag"])
    assert signed.headers["cache-control"] == "private, max-age=3600"
    assert public.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_signature_is_neither_logged_nor_part_of_a_key() -> None:
    cdn = private_cdn()
    secret = SIGNER.cookies(Policy(resource=gallery_resource(HOST, "clients/smith"), expires_s=NOW_S + 60))
    cookie = "; ".join(f"{name}={value}" for name, value in secret.items())
    assert (await cdn.ask(PATH, cookie=cookie)).status == 200
    assert (await cdn.ask(PATH, query=query())).status == 200
    assert (await cdn.ask(PATH, query=query() + b"0")).status == 403
    logged = str(cdn.records) + str(list(cdn.renditions.kept))
    assert "Signature" not in logged
    assert secret["CloudFront-Signature"] not in logged
    assert len(cdn.renditions.kept) == 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", b"", "192.0.2.1"),
        ("192.0.2.1", b"198.51.100.7", "198.51.100.7"),
        ("192.0.2.1", b"203.0.113.1, 198.51.100.7", "198.51.100.7"),
        ("192.0.2.1", b"203.0.113.1, 198.51.100.7, 192.0.2.9", "198.51.100.7"),
        ("192.0.2.1", b"192.0.2.8, 192.0.2.9", "192.0.2.8"),
        ("198.51.100.7", b"203.0.113.1", "198.51.100.7"),
        ("192.0.2.1", b"203.0.113.1, nonsense", "192.0.2.1"),
        ("192.0.2.1", b"203.0.113.1,", "192.0.2.1"),
        ("192.0.2.1", b"203.0.113.1, 192.0.2.5, <script>", "192.0.2.1"),
        ("::ffff:192.0.2.1", b"2001:db8::1", "2001:db8::1"),
        ("", b"203.0.113.1", ""),
        ("unix:", b"203.0.113.1", "unix:"),
        ("192.0.2.1", b"203.0.113.1, unix:", "192.0.2.1"),
    ],
)
def test_client_address_is_forwarded_by_trusted_proxies_only(
    peer: str, forwarded: bytes, client: str
) -> None:
    assert client_address(peer, forwarded, SETTINGS.trusted_networks) == client
    assert client_address(peer, forwarded, NO_CLIENTS) == peer


async def test_policy_s_network_applies_to_the_client_behind_the_proxy() -> None:
    for_one = query(Policy(resource=HOST + PATH, expires_s=NOW_S + 60, network="198.51.100.7/32"))
    cdn = private_cdn()
    assert (await cdn.ask(PATH, query=for_one, x_forwarded_for="198.51.100.7")).status == 200
    answer = await cdn.ask(PATH, query=for_one, x_forwarded_for="198.51.100.7, 203.0.113.1")
    assert answer.code == "signature-wrong-client"
    assert [record.client for record in cdn.records] == ["198.51.100.7", "203.0.113.1"]
    without_proxies = private_cdn(
        Settings(private_prefixes=("clients",), public_keys="k", public_urls=(HOST,))
    )
    answer = await without_proxies.ask(PATH, query=for_one, x_forwarded_for="198.51.100.7")
    assert answer.code == "signature-wrong-client"


# settings


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"private_prefixes": ["a"], "public_urls": [HOST]}, "private_prefixes needs public_keys"),
        ({"private_prefixes": ["a"], "public_keys": "k"}, "private_prefixes needs public_urls"),
        (
            {"private_prefixes": ["a"], "public_keys": "k", "public_urls": [HOST], "browse": True},
            "browse and private_prefixes",
        ),
        ({"private_prefixes": ["a", "b/a"]}, "'b/a' holds another prefix"),
        ({"private_prefixes": ["a", "a/b"]}, "'a/b' holds another prefix"),
        ({"private_prefixes": ["a", "b/a/c"]}, "'b/a/c' holds another prefix"),
        ({"private_prefixes": ["/", "a"]}, "'a' holds another prefix"),
        ({"private_prefixes": ["a/"]}, "'a/' is no folder"),
        ({"private_prefixes": [""]}, "'' is no folder"),
        ({"public_urls": ["cdn.test"]}, "'cdn.test' is no scheme and host"),
        ({"public_urls": [HOST + "/"]}, "is no scheme and host"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "--trusted-proxies: "),
        ({"trusted_proxies": ["proxy"]}, "--trusted-proxies: "),
    ],
)
def test_invalid_settings_raise_one_problem_each(values: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load.load_settings(values, environment={})
    assert any(problem in line for line in raised.value.problems)


def test_key_folder_with_an_unusable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "K1.pem").write_bytes(PUBLIC)
    assert list(keys.load_public_keys(tmp_path)) == ["K1"]
    (tmp_path / "K2.pem").write_bytes(b"no key")
    (tmp_path / "K3.private.pem").write_bytes(PRIVATE)
    (tmp_path / "K 4.pem").write_bytes(PUBLIC)
    with pytest.raises(SettingsError) as raised:
        keys.load_public_keys(tmp_path)
    assert len(raised.value.problems) == 3
    assert b"PRIVATE" not in str(raised.value).encode()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with pytest.raises(SettingsError, match="public_keys: "):
            keys.load_public_keys(folder)


# the commands


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.main, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


@pytest.mark.parametrize("kind", [(), ("--ecdsa",)], ids=["rsa", "ecdsa"])
def test_new_key_signs_for_its_public_key(tmp_path: Path, kind: tuple[str, ...]) -> None:
    made = json.loads(run("keys", "new", "--out", tmp_path / "keys", "--json", *kind))
    private = tmp_path / "keys" / f"{made['id']}.private.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    verifier = Verifier(
        {made["id"]: public_key((tmp_path / "keys" / f"{made['id']}.pem").read_bytes())}, [HOST]
    )
    sign = ("sign", HOST + PATH, "--key", private, "--expires")
    gallery = ("--gallery", "clients/smith", "--starts", "1700000000", "--ip", "192.0.2.0/24")
    for options in (("1700000060",), ("1700000060", *gallery)):
        signed_query = run(*sign, *options).partition("?")[2].encode()
        verifier.verify(PATH.encode(), signed_query, b"", client="192.0.2.1", now_s=NOW_S)
        lines = run(*sign, *options, "--cookies").splitlines()
        assert all(line.endswith("; Path=/; HttpOnly; SameSite=Lax; Secure") for line in lines)
        options_of_cookies = ("--domain", "cdn.test", "--path", "/resize/small/clients/smith")
        for line in run(*sign, *options, "--cookies", *options_of_cookies).splitlines():
            assert line.partition("; ")[2] == (
                "Path=/resize/small/clients/smith; Domain=cdn.test; HttpOnly; SameSite=Lax; Secure"
            )
        cookie = "; ".join(line.partition(";")[0] for line in lines)
        verifier.verify(PATH.encode(), b"", cookie.encode(), client="192.0.2.1", now_s=NOW_S)
        assert json.loads(run(*sign, *options, "--json"))["url"].startswith(HOST + PATH)


def test_existing_key_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _length: "same")
    key_id, public, private = keys.create_key_pair(tmp_path, ecdsa=True)
    before = public.read_bytes(), private.read_bytes()
    with pytest.raises(FileExistsError):
        keys.create_key_pair(tmp_path, ecdsa=True)
    assert (public.read_bytes(), private.read_bytes()) == before
    assert sorted(one.name for one in tmp_path.iterdir()) == [f"{key_id}.pem", f"{key_id}.private.pem"]


@pytest.mark.parametrize(
    "options",
    [
        ("--expires", "soon"),
        ("--expires", "2h", "--ip", "nowhere"),
        ("--expires", "2h", "--gallery", "clients/jones"),
        ("--expires", "2h", "--gallery", "../x"),
    ],
)
def test_invalid_sign_command_prints_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    key_id, public, private = keys.create_key_pair(tmp_path, ecdsa=True)
    result = CliRunner().invoke(cli.main, ["sign", HOST + PATH, "--key", str(private), *options])
    assert result.exit_code in {1, 2}
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    result = CliRunner().invoke(cli.main, ["sign", HOST + PATH, "--key", str(public), "--expires", "2h"])
    assert (result.exit_code, key_id in result.stderr) == (2, True)


# links


@pytest.mark.parametrize("version", ["", "2", "a*?&=b"])
@pytest.mark.parametrize("name", ["1.jpg", "first dance.jpg", "a*b?c.jpg", "ä&=.jpg"])
async def test_signed_links_are_accepted(name: str, version: str) -> None:
    cdn = private_cdn()
    cdn.originals.put(f"clients/smith/{name}")
    picture = Links(HOST, signer=SIGNER).picture(
        f"clients/smith/{name}", 900, 600, "small", alt="", expires_s=NOW_S + 60, version=version
    )
    listed = ", ".join([picture.srcset, *(one.srcset for one in picture.sources)])
    sources = [picture.src, *(one.split(" ")[0] for one in listed.split(", "))]
    assert len(sources) == 1 + 3 * 7  # two of nine sizes have the sides of another one
    for source in sources:
        path, _, signed_query = source.removeprefix(HOST).partition("?")
        assert ("v=" in signed_query) is bool(version)
        assert (await cdn.ask(path, query=signed_query.encode())).status == 200
        assert (await cdn.ask(path)).status == 403
        if version:
            without = signed_query.partition("&")[2]
            assert (await cdn.ask(path, query=without.encode())).status == 403


async def test_gallery_s_signature_is_accepted_for_every_version() -> None:
    """A page of many photographs signs once, in cookies, instead of every address."""
    cdn = private_cdn()
    policy = Policy(resource=gallery_resource(HOST, "clients/smith"), expires_s=NOW_S + 60)
    cookie = "; ".join(f"{name}={value}" for name, value in SIGNER.cookies(policy).items())
    path, _, signed_query = Links().src("clients/smith/1.jpg", "small", version="2").partition("?")
    assert signed_query == "v=2"
    assert (await cdn.ask(path, query=signed_query.encode(), cookie=cookie)).status == 200


def test_signed_links_require_a_signer_and_a_host() -> None:
    with pytest.raises(ValueError, match="needs a signer"):
        Links(HOST).src("a/b", "small", expires_s=NOW_S)
    with pytest.raises(ValueError, match="base_url"):
        Links(signer=SIGNER)
