"""Signing links: what a link opens, what is refused, and which keys the settings may name."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import pytest

from galerly_cdn.access import keys
from galerly_cdn.access.signing import Verifier
from galerly_cdn.errors import Forbidden, SettingsError
from galerly_cdn.http.urls import format_key
from galerly_cdn.settings.load import load_settings
from galerly_cdn.settings.table import Settings
from tests.support.in_memory_admin import InMemoryAdmin
from tests.unit.dashboard.test_photographs import upload, visible

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.in_memory_admin import AdminResponse

PUBLIC_URL = "https://cdn.example.com"
PATH = "/dashboard/galleries/links"
GALLERY = "clients/smith & co*?"


class Signing:
    """An admin side with a key that signs, and the verifier of its links."""

    def __init__(self, folder: Path, prefixes: tuple[str, ...] = ("clients",)) -> None:
        _, _, private_key = keys.create_key_pair(folder, ecdsa=True)
        self.pem = private_key.read_text()
        signer = keys.load_signer(private_key)
        private_key.unlink()
        self.verifier = Verifier(keys.load_public_keys(folder), [PUBLIC_URL])
        settings = Settings(private_prefixes=prefixes, public_urls=(PUBLIC_URL,), public_keys=str(folder))
        self.admin = InMemoryAdmin(settings, signer=signer)

    async def sign(self, gallery: str = GALLERY, expires: str = "2h", ip: str = "") -> AdminResponse:
        form = {"gallery": gallery, "expires": expires, "ip": ip}
        return await self.admin.request("POST", PATH, body=urlencode(form).encode())

    def verify(self, path: str, query: str, client: str, later_s: float) -> bool:
        now_s = self.admin.cdn.clock.wall() + later_s
        try:
            self.verifier.verify(path.encode(), query.encode(), b"", client=client, now_s=now_s)
        except Forbidden:
            return False
        return True


@pytest.fixture
def signing(tmp_path: Path) -> Signing:
    return Signing(tmp_path)


def areas(page: AdminResponse) -> list[str]:
    """The texts to copy."""
    return [html.unescape(one) for one in re.findall("<textarea[^>]*>([^<]*)<", page.body.decode())]


async def test_link_opens_its_gallery_until_its_end_in_its_network(signing: Signing) -> None:
    await upload(signing.admin, f"{GALLERY}/1.jpg", f"{GALLERY}/2.jpg")
    page = await signing.sign(ip="203.0.113.0/24")
    assert page.status == 200
    url, query = areas(page)
    assert url.startswith(f"{PUBLIC_URL}/resize/")
    path = urlsplit(url).path
    second = f"/resize/150x150.webp/{format_key(GALLERY + '/2.jpg').replace('*', '%2A')}"
    other = f"/resize/150x150.webp/{format_key('clients/jones/1.jpg')}"
    original = f"/original/{format_key(GALLERY + '/1.jpg').replace('*', '%2A')}"
    for address, client, later_s, is_open in (
        (path, "203.0.113.7", 0, True),
        (second, "203.0.113.7", 7199, True),
        (second, "203.0.113.7", 7200, False),
        (second, "198.51.100.1", 0, False),
        (other, "203.0.113.7", 0, False),
        (original, "203.0.113.7", 0, False),
    ):
        assert signing.verify(address, query, client, later_s) is is_open
    (audit,) = signing.admin.audits
    assert (audit.action, audit.subject, audit.outcome) == (f"POST {PATH}", GALLERY, "signed")


@pytest.mark.parametrize(
    ("gallery", "expires", "ip", "problem"),
    [
        ("", "2h", "", "Gallery: This is no name of a gallery"),
        ("../x", "2h", "", "Gallery: This is no name of a gallery"),
        ("public", "2h", "", "Gallery: This gallery is public"),
        ("clients", "2h", "", "Gallery: A private gallery is directly in its private folder"),
        ("clients/smith/deeper", "2h", "", "Gallery: A private gallery is directly in its private folder"),
        ("clients/none", "2h", "", "Gallery: There is no photograph in this gallery."),
        (GALLERY, "", "", "Valid for: '' is not a time"),
        (GALLERY, "soon", "", "Valid for: 'soon' is not a time"),
        (GALLERY, "0s", "", "Valid for: The end has to be in the next 3650 days."),
        (GALLERY, "1", "", "Valid for: The end has to be in the next 3650 days."),
        (GALLERY, "999999999999d", "", "Valid for: The end has to be in the next 3650 days."),
        (GALLERY, "999999999999", "", "Valid for: The end has to be in the next 3650 days."),
        (GALLERY, "2h", "nowhere", "Network: 'nowhere' does not appear to be an IPv4 or IPv6 network."),
        (GALLERY, "2h", "10.0.0.1/8", "Network: 10.0.0.1/8 has host bits set."),
        ("<script>", "<script>", "<script>", "Valid for: '<script>' is not a time"),
    ],
)
async def test_link_that_cannot_be_signed_says_why(
    signing: Signing, gallery: str, expires: str, ip: str, problem: str
) -> None:
    await upload(signing.admin, f"{GALLERY}/1.jpg")
    page = await signing.sign(gallery, expires, ip)
    assert page.status == 400
    assert problem in visible(page)
    assert b"<script>" not in page.body
    assert b"Signature=" not in page.body
    assert signing.admin.audits[-1].outcome == "malformed-body"


async def test_prefix_of_every_folder_signs_galleries_of_the_root(tmp_path: Path) -> None:
    signing = Signing(tmp_path, prefixes=("/",))
    await upload(signing.admin, "smith/1.jpg")
    assert (await signing.sign("smith")).status == 200
    assert (await signing.sign("smith/deeper")).status == 400


async def test_page_of_another_site_signs_nothing(signing: Signing) -> None:
    await upload(signing.admin, f"{GALLERY}/1.jpg")
    form = urlencode({"gallery": GALLERY, "expires": "2h", "ip": ""}).encode()
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert (await signing.admin.request("POST", PATH, body=form, headers=headers)).status == 403
    assert [one.outcome for one in signing.admin.audits] == ["cross-site"] * 2


async def test_key_is_on_no_page(signing: Signing) -> None:
    await upload(signing.admin, f"{GALLERY}/1.jpg")
    secret = signing.pem.splitlines()[1]
    for page in (await signing.sign(), await signing.admin.request("GET", PATH)):
        assert secret not in page.body.decode()


async def test_without_a_key_nothing_is_signed_and_the_page_says_what_to_configure() -> None:
    admin = InMemoryAdmin(Settings(private_prefixes=("clients",), public_urls=(PUBLIC_URL,)))
    await upload(admin, "clients/smith/1.jpg")
    assert "signing_key" in visible(await admin.request("GET", PATH))
    form = urlencode({"gallery": "clients/smith", "expires": "2h", "ip": ""}).encode()
    assert (await admin.request("POST", PATH, body=form)).status == 400


def test_signing_key_without_public_keys_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="signing_key needs public_keys"):
        load_settings({"signing_key": "k.private.pem"}, environment={})


@pytest.mark.parametrize("case", ["missing", "no key", "of another id", "of another pair"])
def test_signing_key_that_the_server_would_not_verify_is_a_settings_error(tmp_path: Path, case: str) -> None:
    key_id, _, private_key = keys.create_key_pair(tmp_path / "public", ecdsa=True)
    _, _, other = keys.create_key_pair(tmp_path / "other", ecdsa=True)
    file = private_key.rename(tmp_path / private_key.name)
    public_keys = keys.load_public_keys(tmp_path / "public")
    assert keys.load_paired_signer(file, public_keys).key_id == key_id
    match case:
        case "missing":
            file.unlink()
        case "no key":
            file.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
        case "of another id":
            file = other
        case _:
            file.write_bytes(other.read_bytes())
    with pytest.raises(SettingsError) as raised:
        keys.load_paired_signer(file, public_keys)
    assert "BEGIN" not in str(raised.value)
