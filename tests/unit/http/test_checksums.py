"""Checksum headers of uploads: every supported form is read, and what cannot be verified is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.errors import MalformedChecksum
from galerly_cdn.http.checksums import LENGTHS_BYTES, checksum_headers, read_checksums

BODY = b"a photograph"


def encoded_digest(name: str) -> str:
    return base64.b64encode(hashlib.new(name, BODY).digest()).decode()


MD5, SHA1, SHA256, SHA512 = map(encoded_digest, ("md5", "sha1", "sha256", "sha512"))


def test_digest_lengths_are_those_of_hashlib() -> None:
    assert {name: hashlib.new(name).digest_size for name in LENGTHS_BYTES} == LENGTHS_BYTES


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({}, set()),
        ({"content-type": "image/jpeg"}, set()),
        ({"content-md5": MD5}, {"md5"}),
        ({"content-md5": f" {MD5} "}, {"md5"}),
        ({"digest": f"MD5={MD5}"}, {"md5"}),
        ({"digest": f"SHA-256={SHA256},unixsum=30637"}, {"sha256"}),
        ({"digest": f"sha-256={SHA256}, sha={SHA1}"}, {"sha256", "sha1"}),
        ({"content-digest": f"sha-256=:{SHA256}:"}, {"sha256"}),
        ({"repr-digest": f"sha-512=:{SHA512}:, sha-256=:{SHA256}:"}, {"sha256", "sha512"}),
        ({"repr-digest": f"sha-256=:{SHA256}:, crc32c=:AAAAAA==:"}, {"sha256"}),
        ({"repr-digest": f"sha-256=:{SHA256}:", "content-digest": f"sha-256=:{SHA256}:"}, {"sha256"}),
        ({"x-amz-checksum-sha256": SHA256}, {"sha256"}),
        ({"x-amz-checksum-sha1": SHA1, "x-amz-checksum-algorithm": "SHA1"}, {"sha1"}),
    ],
)
def test_checksum_is_read_from_every_header(headers: dict[str, str], names: set[str]) -> None:
    digests = read_checksums({name.encode(): value.encode() for name, value in headers.items()})
    assert digests == {name: hashlib.new(name, BODY).digest() for name in names}


@pytest.mark.parametrize(
    "headers",
    [
        {"content-md5": ""},
        {"content-md5": "0123456789abcdef0123456789abcdef"},  # hex, not base64
        {"content-md5": MD5[:-2]},
        {"content-md5": f"{MD5}, {MD5}"},
        {"content-md5": SHA1},
        {"content-md5": "!" + MD5},
        {"digest": ""},
        {"digest": f"sha-256=:{SHA256}:"},
        {"digest": "unixsum=30637"},
        {"digest": f"sha-256 {SHA256}"},
        {"content-digest": f"sha-256={SHA256}"},
        {"content-digest": "sha-256=:"},
        {"content-digest": f"sha-256=:{MD5}:"},
        {"content-digest": "crc32c=:AAAAAA==:"},
        {"repr-digest": f"sha-256=:{SHA256}:, sha-256=:{encoded_digest('sha256')[::-1]}:"},
        {"repr-digest": f"md5=:{MD5}:", "content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="},
        {"x-amz-checksum-": MD5},
        {"x-amz-checksum-sha256": MD5},
    ],
    ids=str,
)
def test_unverifiable_checksum_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(MalformedChecksum):
        read_checksums({name.encode(): value.encode() for name, value in headers.items()})


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.binary(min_size=length, max_size=length) for name, length in LENGTHS_BYTES.items()
        },
    )
)
def test_written_checksums_are_read_again(digests: dict[str, bytes]) -> None:
    headers = {name.lower().encode(): value.encode() for name, value in checksum_headers(digests).items()}
    assert read_checksums(headers) == digests


@given(st.sampled_from(sorted({"content-md5", "digest", "repr-digest", "x-amz-checksum-sha1"})), st.binary())
def test_any_header_is_read_or_refused(name: str, value: bytes) -> None:
    try:
        digests = read_checksums({name.encode(): value})
    except MalformedChecksum:
        return
    assert all(len(digest) == LENGTHS_BYTES[one] for one, digest in digests.items())
    assert digests
