"""Tests Google Cloud Storage and Azure offline: addresses, requests, checksums and errors.

obstore sends the requests of those clouds to the tests' own server. Decision 9 says what that proves.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.errors import NoSuchOriginal, SettingsError, StoreCorrupt, StoreRefused, StoreUnreachable
from galerly_cdn.settings.table import Settings
from galerly_cdn.store.remote import connection, resilience
from galerly_cdn.store.remote.bucket import Bucket
from galerly_cdn.store.remote.originals import RemoteOriginals
from tests.support import tls_certificates
from tests.support.fake_s3 import FakeS3, Fault, fake_s3
from tests.support.rendition_folders import Counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONTENT = b"not a photograph"
CLOUDS = {
    "gs": ("gs://bucket/originals", "x-goog-meta-md5", {"GOOGLE_SKIP_SIGNATURE": "true"}, "GOOGLE_BASE_URL"),
    "az": (
        "az://bucket/originals",
        "x-ms-meta-md5",
        {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_SKIP_SIGNATURE": "true"},
        "AZURE_STORAGE_ENDPOINT",
    ),
}


@pytest.fixture(params=CLOUDS)
async def cloud(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[FakeS3, RemoteOriginals]]:
    """The server, and a store of originals on it."""
    monkeypatch.setattr(connection, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(resilience, "_BACKOFF_S", 0.001)
    address, metadata, variables, endpoint = CLOUDS[request.param]
    async with fake_s3(tls_certificates.make(tmp_path)) as fake:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        monkeypatch.setenv(endpoint, f"https://localhost:{fake.port}")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        fake.put("originals/g/a b.jpg", CONTENT)
        fake.objects["bucket/originals/g/a b.jpg"].headers[metadata] = hashlib.md5(CONTENT).hexdigest()
        settings = Settings(store_fresh_s=0)
        bucket = Bucket(address, settings, lambda: 0.0, Counted())
        yield fake, RemoteOriginals(bucket, settings, lambda: 0.0)


async def test_original_is_downloaded_completely(cloud: tuple[FakeS3, RemoteOriginals]) -> None:
    fake, store = cloud
    head = await store.head("g/a b.jpg")
    assert head.length_bytes == len(CONTENT)
    with await store.open("g/a b.jpg") as original:
        assert original.head == head
        assert os.pread(original.fd, 100, 0) == CONTENT
    fake.fault = lambda _request: Fault(altered=lambda body: body[::-1])
    with pytest.raises(StoreCorrupt):
        await store.open("g/a b.jpg")


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (Fault(status=404, code="BlobNotFound"), NoSuchOriginal, 1),
        (Fault(status=403, code="AuthorizationFailure"), StoreRefused, 1),
        (Fault(status=503, code="ServerBusy"), StoreUnreachable, 4),
        (Fault(status=429), StoreUnreachable, 4),
        (Fault(resets=True), StoreUnreachable, 4),
    ],
)
async def test_provider_error_is_mapped_to_its_store_error(
    cloud: tuple[FakeS3, RemoteOriginals], fault: Fault, error: type[Exception], requests: int
) -> None:
    fake, store = cloud
    fake.fault = lambda _request: fault
    with pytest.raises(error):
        await store.head("g/a b.jpg")
    assert len(fake.requests) == requests


async def test_missing_credentials_are_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last place where obstore looks for credentials is a cloud's metadata service, which fails here."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(connection, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(resilience, "_BACKOFF_S", 0.001)
    async with fake_s3() as fake:
        fake.fault = lambda _request: Fault(resets=True)
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{fake.port}")
        bucket = Bucket("s3://bucket/originals", Settings(), lambda: 0.0, Counted())
        with pytest.raises(SettingsError, match="no credentials"):
            await bucket.check()


async def test_endpoint_of_the_environment_must_be_https_unless_a_setting_allows_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    async with fake_s3() as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{fake.port}")
        bucket = Bucket("s3://bucket/originals", Settings(), lambda: 0.0, Counted())
        with pytest.raises(SettingsError, match="store_endpoint"):
            await bucket.check()
        assert fake.connections == 0
