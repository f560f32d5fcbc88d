"""Signed addresses: accepted only for the signed address, time and network (S13)."""

from __future__ import annotations

import base64
import itertools
import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from galerly_cdn.access import signing
from galerly_cdn.access.policy import Policy, gallery_resource
from galerly_cdn.access.signing import Signer, Verifier, new_pair, public_key
from galerly_cdn.errors import (
    Forbidden,
    SignatureExpired,
    SignatureInvalid,
    SignatureRequired,
    SignatureTooEarly,
    SignatureWrongClient,
)
from tests.support import exhaustive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALL_MUTATIONS = 100_000
MUTATIONS = exhaustive.count(ALL_MUTATIONS, sample=5_000)
HOST = "https://cdn.test"
PATH = "/resize/small/clients/smith/1.jpg"
ADDRESS = HOST + PATH
NOW_S = 1_700_000_000
END_S = NOW_S + 3600
GALLERY = gallery_resource(HOST, "clients/smith")
CLIENT = "192.0.2.7"

RSA_PUBLIC, RSA_PRIVATE = new_pair(ecdsa=False)
EC_PUBLIC, EC_PRIVATE = new_pair(ecdsa=True)
SIGNERS = {"rsa": Signer("K1", RSA_PRIVATE), "ecdsa": Signer("K2", EC_PRIVATE)}
VERIFIER = Verifier(
    {"K1": public_key(RSA_PUBLIC), "K2": public_key(EC_PUBLIC)}, [HOST, "http://127.0.0.1:8000"]
)
EITHER = pytest.mark.parametrize("signer", SIGNERS.values(), ids=SIGNERS)
POLICIES = {
    "canned": Policy(resource=ADDRESS, expires_s=END_S),
    "custom": Policy(resource=GALLERY, expires_s=END_S, starts_s=NOW_S, network="192.0.2.0/24"),
}


def verify(
    address: str,
    *,
    cookie: str = "",
    now_s: float = NOW_S,
    client: str = CLIENT,
    verifier: Verifier = VERIFIER,
) -> None:
    """Verify an address; its scheme and host are removed, because a request's path has none."""
    path, _, query = address.removeprefix(HOST).partition("?")
    verifier.verify(path.encode(), query.encode(), cookie.encode(), client=client, now_s=now_s)


def cookies(values: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in values.items())


# valid signatures


@EITHER
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_signature_is_accepted_in_query_and_cookies(signer: Signer, policy: Policy) -> None:
    verify(signer.url(ADDRESS, policy))
    verify(ADDRESS, cookie=cookies(signer.cookies(policy)))
    verify(ADDRESS, cookie="theme=dark; " + cookies(signer.cookies(policy)) + "; Expires=1")


def test_canned_form_is_used_where_it_suffices() -> None:
    assert "Expires" in SIGNERS["rsa"].parameters(POLICIES["canned"])
    assert "Policy" in SIGNERS["rsa"].parameters(POLICIES["custom"])
    assert POLICIES["canned"].document() == (
        b'{"Statement":[{"Resource":"https://cdn.test/resize/small/clients/smith/1.jpg",'
        b'"Condition":{"DateLessThan":{"AWS:EpochTime":1700003600}}}]}'
    )


def test_signature_is_accepted_for_every_public_url_and_with_a_query() -> None:
    local = "http://127.0.0.1:8000" + PATH
    signed = SIGNERS["rsa"].url(local, expires_s=END_S)
    verify(HOST + signed.removeprefix("http://127.0.0.1:8000"))
    verify(SIGNERS["rsa"].url(ADDRESS + "?v=2", expires_s=END_S))
    verify(SIGNERS["rsa"].url(ADDRESS + "?v=2", Policy(resource=GALLERY, expires_s=END_S)))


# botocore, both ways


def botocore_signer(private_pem: bytes) -> CloudFrontSigner:
    key = serialization.load_pem_private_key(private_pem, None)
    if isinstance(key, rsa.RSAPrivateKey):
        return CloudFrontSigner("K1", lambda policy: key.sign(policy, padding.PKCS1v15(), hashes.SHA1()))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return CloudFrontSigner("K2", lambda policy: key.sign(policy, ec.ECDSA(hashes.SHA1())))


@pytest.mark.parametrize("private_pem", [RSA_PRIVATE, EC_PRIVATE], ids=["rsa", "ecdsa"])
@pytest.mark.parametrize("address", [ADDRESS, ADDRESS + "?v=2"])
def test_signature_by_botocore_is_accepted(private_pem: bytes, address: str) -> None:
    botocore_policy_signer = botocore_signer(private_pem)
    end = datetime.fromtimestamp(END_S, UTC)
    verify(botocore_policy_signer.generate_presigned_url(address, date_less_than=end))
    policy = botocore_policy_signer.build_policy(
        GALLERY, end, date_greater_than=datetime.fromtimestamp(NOW_S, UTC), ip_address="192.0.2.0/24"
    )
    verify(botocore_policy_signer.generate_presigned_url(address, policy=policy))


def test_policy_documents_equal_those_of_botocore() -> None:
    botocore_policy_signer = botocore_signer(RSA_PRIVATE)
    end, start = datetime.fromtimestamp(END_S, UTC), datetime.fromtimestamp(NOW_S, UTC)
    assert botocore_policy_signer.build_policy(ADDRESS, end).encode() == POLICIES["canned"].document()
    with_query = Policy(resource=ADDRESS + "?v=2", expires_s=END_S)
    assert botocore_policy_signer.build_policy(ADDRESS + "?v=2", end).encode() == with_query.document()
    custom = botocore_policy_signer.build_policy(
        GALLERY, end, date_greater_than=start, ip_address="192.0.2.0/24"
    )
    assert json.loads(custom) == json.loads(POLICIES["custom"].document())
    signature = SIGNERS["rsa"].parameters(POLICIES["canned"])["Signature"]
    raw = base64.b64decode(signature.replace("-", "+").replace("_", "=").replace("~", "/"))
    public = serialization.load_pem_public_key(RSA_PUBLIC)
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(
        raw, botocore_policy_signer.build_policy(ADDRESS, end).encode(), padding.PKCS1v15(), hashes.SHA256()
    )


# times and networks


@pytest.mark.parametrize(
    ("now_s", "client", "error"),
    [
        (NOW_S, CLIENT, None),
        (END_S - 0.001, CLIENT, None),
        (END_S, CLIENT, SignatureExpired),
        (END_S + 1, CLIENT, SignatureExpired),
        (NOW_S - 0.001, CLIENT, SignatureTooEarly),
        (NOW_S, "192.0.3.7", SignatureWrongClient),
        (NOW_S, "::ffff:192.0.2.9", None),
        (NOW_S, "2001:db8::1", SignatureWrongClient),
        (NOW_S, "", SignatureWrongClient),
    ],
)
@EITHER
def test_signature_is_valid_from_its_start_to_its_end_for_its_network(
    signer: Signer, now_s: float, client: str, error: type[Forbidden] | None
) -> None:
    signed = signer.url(ADDRESS, POLICIES["custom"])
    if error is None:
        verify(signed, now_s=now_s, client=client)
        return
    with pytest.raises(error):
        verify(signed, now_s=now_s, client=client)


@pytest.mark.parametrize(
    ("network", "client", "expected"),
    [
        ("0.0.0.0/0", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("2001:db8::/32", CLIENT, False),
        ("192.0.2.7", CLIENT, True),
        ("192.0.2.7/32", "192.0.2.8", False),
        ("nonsense", CLIENT, False),
    ],
)
def test_network_is_a_cidr(network: str, client: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    assert Policy(resource=ADDRESS, expires_s=END_S, network=network).allows_client(client) is expected


# attacks


def signed(name: str) -> str:
    return SIGNERS["rsa"].url(ADDRESS, POLICIES[name])


def with_value(address: str, name: str, value: str) -> str:
    """The address with another value for one parameter."""
    head, _, query = address.partition("?")
    parts = (part.partition("=") for part in query.split("&"))
    return head + "?" + "&".join(f"{one}={value if one == name else was}" for one, _, was in parts)


CANNED, CUSTOM = signed("canned"), signed("custom")
ATTACKS = {
    "another photograph": CANNED.replace("1.jpg", "2.jpg"),
    "another size of it": CANNED.replace("/small/", "/medium/"),
    "another gallery": CUSTOM.replace("/smith/", "/jones/"),
    "another folder": CUSTOM.replace("/clients/", "/others/"),
    "another spelling": CANNED.replace("1.jpg", "%31.jpg"),
    "the gallery in the query": CUSTOM.replace("/smith/1.jpg?", "/jones/1.jpg?x=/clients/smith/1.jpg&"),
    "the gallery at the query's end": CUSTOM.replace("/smith/", "/jones/") + "&x/clients/smith/1.jpg",
    "an original": CUSTOM.replace("/resize/small/", "/original/"),
    "its signature in the path too": CANNED.replace("/1.jpg?", "/1.jpg/Signature=x?"),
    "a parameter more": CANNED + "&v=2",
    "a query more": CANNED.replace("?", "?&"),
    "a later end": with_value(CANNED, "Expires", str(END_S + 9999)),
    "a zero before": with_value(CANNED, "Expires", f"0{END_S}"),
    "a sign": with_value(CANNED, "Expires", f"+{END_S}"),
    "no end": with_value(CANNED, "Expires", ""),
    "another key": with_value(CANNED, "Key-Pair-Id", "K2"),
    "an unknown key": with_value(CANNED, "Key-Pair-Id", "K3"),
    "another hash": with_value(CANNED, "Hash-Algorithm", "SHA1"),
    "an unknown hash": with_value(CANNED, "Hash-Algorithm", "MD5"),
    "no hash": CANNED.replace("&Hash-Algorithm=SHA256", ""),
    "no signature": with_value(CANNED, "Signature", ""),
    "a signature cut": with_value(
        CANNED, "Signature", CANNED.partition("Signature=")[2].partition("&")[0][:-4]
    ),
    "two signatures": CANNED + "&Signature=" + CANNED.partition("Signature=")[2].partition("&")[0],
    "two ends": CANNED.replace("?", f"?Expires={END_S + 9999}&"),
    "both forms": CANNED + "&Policy=" + CUSTOM.partition("Policy=")[2].partition("&")[0],
    "the policy of another": with_value(CUSTOM, "Policy", "e30_"),
    "an end alone": f"{ADDRESS}?Expires={END_S}",
    "an encoded parameter": CANNED.replace("Signature=", "%53ignature="),
    "an encoded value": CANNED.replace("Hash-Algorithm=SHA256", "Hash-Algorithm=SHA%3256"),
    "another host": SIGNERS["rsa"].url("https://evil.test" + PATH, expires_s=END_S).replace("evil", "cdn"),
    "another scheme": SIGNERS["rsa"]
    .url("http://cdn.test" + PATH, expires_s=END_S)
    .replace("http:", "https:"),
    "another port": SIGNERS["rsa"].url("https://cdn.test:8443" + PATH, expires_s=END_S).replace(":8443", ""),
    "a key of one's own": Signer("K1", new_pair(ecdsa=False)[1]).url(ADDRESS, expires_s=END_S),
    "a key of another kind": Signer("K1", EC_PRIVATE).url(ADDRESS, expires_s=END_S),
}


@pytest.mark.parametrize("address", ATTACKS.values(), ids=ATTACKS)
def test_other_address_than_the_signed_one_is_refused(address: str) -> None:
    verify(CANNED)
    verify(CUSTOM)
    with pytest.raises(SignatureInvalid):
        verify(address)


def test_signature_parameters_are_accepted_in_any_order() -> None:
    head, _, query = CANNED.partition("?")
    verify(head + "?" + "&".join(reversed(query.split("&"))))


@pytest.mark.parametrize("variant", ["strip", "second", "standard", "space", "newline"])
def test_signature_has_one_encoding(variant: str) -> None:
    value = CANNED.partition("Signature=")[2].partition("&")[0]
    assert value.endswith("__")  # 256 bytes: two of padding
    encoded = {
        "strip": value.rstrip("_"),
        "second": value[:-3] + chr(ord(value[-3]) + 1) + "__",  # other padding bits
        "standard": value.replace("_", "="),
        "space": value + "%20",
        "newline": value + "\n",
    }[variant]
    with pytest.raises(SignatureInvalid):
        verify(with_value(CANNED, "Signature", encoded))


def test_address_without_signature_requires_one() -> None:
    for cookie in ("", "a=b", "CloudFront-Theme=1"):
        with pytest.raises(SignatureRequired):
            verify(ADDRESS, cookie=cookie)
    for separator in ("%3F", ";", "/"):
        with pytest.raises(SignatureRequired):
            verify(CANNED.replace("?", separator))


def test_signature_in_the_query_takes_precedence_over_cookies() -> None:
    good = cookies(SIGNERS["rsa"].cookies(POLICIES["custom"]))
    with pytest.raises(SignatureInvalid):
        verify(ATTACKS["a later end"], cookie=good)
    verify(CANNED, cookie=good.replace("Signature=", "Signature=A"))


OTHER_GALLERY = Policy(resource=f"{HOST}/resize/*/other/*", expires_s=END_S)
EXPIRED = Policy(resource=f"{HOST}/resize/*", expires_s=1)


@pytest.mark.parametrize("first", SIGNERS)
@pytest.mark.parametrize("second", SIGNERS)
@pytest.mark.parametrize("good", POLICIES)
@pytest.mark.parametrize("other", [OTHER_GALLERY, EXPIRED, *POLICIES.values()])
def test_of_two_sets_of_cookies_the_valid_one_counts(
    first: str, second: str, good: str, other: Policy
) -> None:
    """A browser sends the sets of two paths, the one with the longer path first (RFC 6265 §5.4)."""
    valid = cookies(SIGNERS[first].cookies(POLICIES[good]))
    invalid = cookies(SIGNERS[second].cookies(other))
    verify(ADDRESS, cookie=f"{valid}; {invalid}")
    verify(ADDRESS, cookie=f"{invalid}; {valid}")
    verify(ADDRESS, cookie=f"CloudFront-Signature=A; {valid}; CloudFront-Policy=B")


@pytest.mark.parametrize("signer", SIGNERS.values())
def test_of_two_invalid_sets_of_cookies_the_reason_is_the_one_that_explains(signer: Signer) -> None:
    expired, other = cookies(signer.cookies(EXPIRED)), cookies(signer.cookies(OTHER_GALLERY))
    for cookie in (f"{expired}; {other}", f"{other}; {expired}"):
        with pytest.raises(SignatureExpired):
            verify(ADDRESS, cookie=cookie)
    with pytest.raises(SignatureInvalid):
        verify(ADDRESS, cookie=f"{other}; CloudFront-Signature=A")


def test_cookies_of_many_sets_are_refused_before_they_are_verified() -> None:
    good = cookies(SIGNERS["rsa"].cookies(POLICIES["custom"]))
    many = "; ".join(f"CloudFront-Signature={number}; CloudFront-Policy={number}" for number in range(9))
    with pytest.raises(SignatureInvalid):
        verify(ADDRESS, cookie=f"{many}; {good}")


def test_signature_of_a_removed_key_is_refused() -> None:
    rotated = Verifier({"K2": public_key(EC_PUBLIC)}, [HOST])
    verify(SIGNERS["ecdsa"].url(ADDRESS, expires_s=END_S), verifier=rotated)
    with pytest.raises(SignatureInvalid):
        verify(CANNED, verifier=rotated)


@pytest.mark.parametrize(
    "policy",
    [
        b"",
        b"{}",
        b"[]",
        b'{"Statement":[]}',
        b'{"Statement":[{"Resource":"*"}]}',
        b'{"Statement":[{"Resource":"*","Condition":{}}]}',
        b'{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":"1700003600"}}}]}',
        b'{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1700003600},"New":1}}]}',
    ],
)
def test_incomplete_policy_is_refused_although_signed(policy: bytes) -> None:
    class Lenient(Policy, frozen=True):
        def document(self) -> bytes:
            return policy

    lenient = Lenient(resource="*", expires_s=END_S)
    with pytest.raises(SignatureInvalid):
        verify(SIGNERS["rsa"].url(ADDRESS, lenient))


@pytest.mark.parametrize(
    ("resource", "address", "matches"),
    [
        ("*", ADDRESS, True),
        ("https://cdn.test/*", ADDRESS, True),
        ("http*://cdn.test/*", ADDRESS, True),
        ("https://cdn.test/resize/*/clients/smith/?.jpg", ADDRESS, True),
        ("https://cdn.test/resize/*/clients/smith/?.jpg", ADDRESS.replace("1.jpg", "12.jpg"), False),
        ("https://cdn.test/resize/*", "https://cdn.test.evil/resize/a", False),
        ("https://cdn.test/a.b", "https://cdn.test/aXb", False),
        ("https://cdn.test/a*b*c", "https://cdn.test/a-b-b-c", True),
        ("https://cdn.test/a*b*c", "https://cdn.test/a-c-b", False),
        ("*" + "a*" * 40 + "b", "a" * 4000, False),
    ],
)
def test_wildcards_match_in_bounded_time(resource: str, address: str, matches: bool) -> None:  # noqa: FBT001 - a table's column
    assert Policy(resource=resource, expires_s=END_S).matches(address) is matches


SOURCES = [CANNED, CUSTOM, *(SIGNERS["ecdsa"].url(ADDRESS, policy) for policy in POLICIES.values())]


def test_address_with_any_flipped_bit_is_refused() -> None:
    for source in SOURCES:
        for place in range(len(HOST), len(source)):
            for bit in range(7):
                mutant = flipped(source, place, bit)
                if not is_allowed_change(mutant, source):
                    assert not is_accepted(VERIFIER, mutant), mutant


@pytest.mark.exhaustive
def test_mutated_addresses_are_refused() -> None:
    """Bits are flipped; characters are changed, dropped and doubled; parts are exchanged."""
    assert list(itertools.islice(bypasses(VERIFIER, MUTATIONS), 1)) == []


def first_of_two(query: bytes) -> bytes:
    parts = reversed(query.split(b"&"))
    return b"&".join({part.partition(b"=")[0]: part for part in parts}.values())


def any_case(query: bytes) -> bytes:
    names = {name.lower(): name for name in (b"Expires", b"Policy", b"Signature", b"Key-Pair-Id")}
    pairs = (part.partition(b"=") for part in query.split(b"&"))
    return b"&".join(names.get(name.lower(), name) + b"=" + value for name, _, value in pairs)


def signature_only(query: bytes) -> bytes:
    return b"&".join(
        part for part in query.split(b"&") if part.partition(b"=")[0].decode() in signing.PARAMETER_NAMES
    )


def without_empty(query: bytes) -> bytes:
    return b"&".join(part for part in query.split(b"&") if part)


@pytest.mark.exhaustive
@pytest.mark.parametrize("lenient", [first_of_two, any_case, signature_only, without_empty])
def test_mutations_detect_a_verifier_with_a_lenient_query(
    lenient: Callable[[bytes], bytes],
) -> None:
    class Lenient(Verifier):
        def verify(self, raw_path: bytes, query: bytes, cookie: bytes, *, client: str, now_s: float) -> None:
            super().verify(raw_path, lenient(query), cookie, client=client, now_s=now_s)

    verifier = Lenient({"K1": public_key(RSA_PUBLIC), "K2": public_key(EC_PUBLIC)}, [HOST])
    assert next(bypasses(verifier, ALL_MUTATIONS), None) is not None


def test_twenty_thousand_mutated_cookies_are_refused() -> None:
    rng = random.Random(20261124)
    sources = [cookies(signer.cookies(policy)) for signer in SIGNERS.values() for policy in POLICIES.values()]
    tried = 0
    while tried < 20_000:
        source = rng.choice(sources)
        mutant = mutated(rng, source, rng.randrange(len(source)))
        if signature_cookies(mutant) == signature_cookies(source):
            continue
        tried += 1
        with pytest.raises(Forbidden):
            verify(ADDRESS, cookie=mutant)


def signature_cookies(cookie: str) -> list[str]:
    """The cookies of the signature; spaces around one are ignored (RFC 6265 §5.4)."""
    parts = (part.strip(" ") for part in cookie.split(";"))
    names = {f"CloudFront-{parameter}" for parameter in signing.PARAMETER_NAMES}
    return sorted(part for part in parts if part.partition("=")[0] in names)


@pytest.mark.exhaustive
def test_mutations_detect_a_second_encoding_of_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's base64 ignores padding bits."""

    def decoded(text: str) -> bytes:
        try:
            return base64.b64decode(text.translate(signing._FROM_SAFE), validate=True)
        except ValueError:
            raise SignatureInvalid from None

    monkeypatch.setattr(signing, "_decode", decoded)
    assert next(bypasses(VERIFIER, ALL_MUTATIONS), None) is not None


def bypasses(verifier: Verifier, mutants: int) -> Iterator[str]:
    """The mutants among so many that are accepted although they were not signed."""
    rng = random.Random(20261123)
    tried = 0
    while tried < mutants:
        source = rng.choice(SOURCES)
        mutant = mutated(rng, source, rng.randrange(len(HOST), len(source)))
        if is_allowed_change(mutant, source):
            continue
        tried += 1
        if is_accepted(verifier, mutant):
            yield mutant


def is_accepted(verifier: Verifier, address: str) -> bool:
    try:
        verify(address, verifier=verifier)
    except Forbidden:
        return False
    return True


def flipped(source: str, place: int, bit: int) -> str:
    return source[:place] + chr(ord(source[place]) ^ 1 << bit) + source[place + 1 :]


def mutated(rng: random.Random, source: str, place: int) -> str:
    match rng.randrange(5):
        case 0:
            return flipped(source, place, rng.randrange(7))
        case 1:
            return source[:place] + rng.choice("aA09-_~=&?%/*+.") + source[place + 1 :]
        case 2:
            return source[:place] + source[place + 1 :]
        case 3:
            return source[: place + 1] + source[place:]
        case _:
            other = rng.choice((CANNED, CUSTOM))
            return source[:place] + other[place : place + rng.randrange(1, 40)] + source[place + 1 :]


def is_allowed_change(mutant: str, source: str) -> bool:
    """Whether the mutant is still signed: its signature is unchanged, and its `*` matches all else."""
    head, _, query = mutant.partition("?")
    was_head, _, was_query = source.partition("?")
    parts, was_parts = sorted(query.split("&")), sorted(was_query.split("&"))
    if "Policy=" not in source:
        return (head, parts) == (was_head, was_parts)
    names = {part.partition("=")[0] for part in was_parts}
    signature = [part for part in parts if part.partition("=")[0] in names]
    return signature == was_parts and Policy(resource=GALLERY, expires_s=END_S).matches(head)


# keys


def test_weak_and_malformed_keys_are_refused() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    other = ec.generate_private_key(ec.SECP384R1())
    for key in (weak, other):
        pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with pytest.raises(ValueError, match="neither RSA of 2048"):
            public_key(pem)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with pytest.raises(ValueError, match="neither RSA of 2048"):
            Signer("K", private)
    for unreadable in (b"", b"-----BEGIN PUBLIC KEY-----\n", RSA_PRIVATE):
        with pytest.raises(ValueError, match=r"."):
            public_key(unreadable)
