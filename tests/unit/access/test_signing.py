"""Signed addresses: only what the holder of a private key allowed, when, and to whom (S13)."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
GRANTS = {
    "canned": Policy(resource=ADDRESS, expires_s=END_S),
    "custom": Policy(resource=GALLERY, expires_s=END_S, starts_s=NOW_S, network="192.0.2.0/24"),
}


def ask(
    address: str,
    *,
    cookie: str = "",
    now_s: float = NOW_S,
    client: str = CLIENT,
    verifier: Verifier = VERIFIER,
) -> None:
    """Verify a request's address; its scheme and host are left behind, as a request's are."""
    path, _, query = address.removeprefix(HOST).partition("?")
    verifier.verify(path.encode(), query.encode(), cookie.encode(), client=client, now_s=now_s)


def cookies(values: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in values.items())


# what is signed is let in


@EITHER
@pytest.mark.parametrize("grant", GRANTS.values(), ids=GRANTS)
def test_what_is_signed_is_let_in_by_query_and_by_cookies(signer: Signer, grant: Policy) -> None:
    ask(signer.url(ADDRESS, grant))
    ask(ADDRESS, cookie=cookies(signer.cookies(grant)))
    ask(ADDRESS, cookie="theme=dark; " + cookies(signer.cookies(grant)) + "; Expires=1")


def test_the_short_form_is_taken_where_it_says_it_all() -> None:
    assert "Expires" in SIGNERS["rsa"].parameters(GRANTS["canned"])
    assert "Policy" in SIGNERS["rsa"].parameters(GRANTS["custom"])
    assert GRANTS["canned"].policy() == (
        b'{"Statement":[{"Resource":"https://cdn.test/resize/small/clients/smith/1.jpg",'
        b'"Condition":{"DateLessThan":{"AWS:EpochTime":1700003600}}}]}'
    )


def test_every_public_url_may_have_been_signed_for_and_a_query_is_signed_with_the_rest() -> None:
    local = "http://127.0.0.1:8000" + PATH
    signed = SIGNERS["rsa"].url(local, expires_s=END_S)
    ask(HOST + signed.removeprefix("http://127.0.0.1:8000"))
    ask(SIGNERS["rsa"].url(ADDRESS + "?v=2", expires_s=END_S))
    ask(SIGNERS["rsa"].url(ADDRESS + "?v=2", Policy(resource=GALLERY, expires_s=END_S)))


# botocore, both ways


def botocore_signer(private_pem: bytes) -> CloudFrontSigner:
    key = serialization.load_pem_private_key(private_pem, None)
    if isinstance(key, rsa.RSAPrivateKey):
        return CloudFrontSigner("K1", lambda policy: key.sign(policy, padding.PKCS1v15(), hashes.SHA1()))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return CloudFrontSigner("K2", lambda policy: key.sign(policy, ec.ECDSA(hashes.SHA1())))


@pytest.mark.parametrize("private_pem", [RSA_PRIVATE, EC_PRIVATE], ids=["rsa", "ecdsa"])
@pytest.mark.parametrize("address", [ADDRESS, ADDRESS + "?v=2"])
def test_what_botocore_signs_is_let_in(private_pem: bytes, address: str) -> None:
    theirs = botocore_signer(private_pem)
    end = datetime.fromtimestamp(END_S, UTC)
    ask(theirs.generate_presigned_url(address, date_less_than=end))
    policy = theirs.build_policy(
        GALLERY, end, date_greater_than=datetime.fromtimestamp(NOW_S, UTC), ip_address="192.0.2.0/24"
    )
    ask(theirs.generate_presigned_url(address, policy=policy))


def test_our_policies_are_botocores_byte_for_byte() -> None:
    theirs = botocore_signer(RSA_PRIVATE)
    end, start = datetime.fromtimestamp(END_S, UTC), datetime.fromtimestamp(NOW_S, UTC)
    assert theirs.build_policy(ADDRESS, end).encode() == GRANTS["canned"].policy()
    replaced = Policy(resource=ADDRESS + "?v=2", expires_s=END_S)
    assert theirs.build_policy(ADDRESS + "?v=2", end).encode() == replaced.policy()
    custom = theirs.build_policy(GALLERY, end, date_greater_than=start, ip_address="192.0.2.0/24")
    assert json.loads(custom) == json.loads(GRANTS["custom"].policy())
    ours = SIGNERS["rsa"].parameters(GRANTS["canned"])["Signature"]
    raw = base64.b64decode(ours.replace("-", "+").replace("_", "=").replace("~", "/"))
    public = serialization.load_pem_public_key(RSA_PUBLIC)
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(raw, theirs.build_policy(ADDRESS, end).encode(), padding.PKCS1v15(), hashes.SHA256())


# when, and to whom


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
def test_a_signature_holds_from_its_start_to_its_end_for_its_network(
    signer: Signer, now_s: float, client: str, error: type[Forbidden] | None
) -> None:
    signed = signer.url(ADDRESS, GRANTS["custom"])
    if error is None:
        ask(signed, now_s=now_s, client=client)
        return
    with pytest.raises(error):
        ask(signed, now_s=now_s, client=client)


@pytest.mark.parametrize(
    ("network", "client", "holds"),
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
def test_a_network_is_a_cidr(network: str, client: str, holds: bool) -> None:  # noqa: FBT001 - a table's column
    assert Policy(resource=ADDRESS, expires_s=END_S, network=network).admits(client) is holds


# attacks


def signed(name: str) -> str:
    return SIGNERS["rsa"].url(ADDRESS, GRANTS[name])


def swapped(address: str, name: str, value: str) -> str:
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
    "a later end": swapped(CANNED, "Expires", str(END_S + 9999)),
    "a zero before": swapped(CANNED, "Expires", f"0{END_S}"),
    "a sign": swapped(CANNED, "Expires", f"+{END_S}"),
    "no end": swapped(CANNED, "Expires", ""),
    "another key": swapped(CANNED, "Key-Pair-Id", "K2"),
    "an unknown key": swapped(CANNED, "Key-Pair-Id", "K3"),
    "another hash": swapped(CANNED, "Hash-Algorithm", "SHA1"),
    "a hash nobody knows": swapped(CANNED, "Hash-Algorithm", "MD5"),
    "no hash": CANNED.replace("&Hash-Algorithm=SHA256", ""),
    "no signature": swapped(CANNED, "Signature", ""),
    "a signature cut": swapped(CANNED, "Signature", CANNED.partition("Signature=")[2].partition("&")[0][:-4]),
    "two signatures": CANNED + "&Signature=" + CANNED.partition("Signature=")[2].partition("&")[0],
    "two ends": CANNED.replace("?", f"?Expires={END_S + 9999}&"),
    "both forms": CANNED + "&Policy=" + CUSTOM.partition("Policy=")[2].partition("&")[0],
    "the policy of another": swapped(CUSTOM, "Policy", "e30_"),
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
def test_an_address_that_was_not_signed_is_refused(address: str) -> None:
    ask(CANNED)
    ask(CUSTOM)
    with pytest.raises(SignatureInvalid):
        ask(address)


def test_the_order_of_the_signatures_parameters_does_not_matter() -> None:
    head, _, query = CANNED.partition("?")
    ask(head + "?" + "&".join(reversed(query.split("&"))))


@pytest.mark.parametrize("variant", ["strip", "second", "standard", "space", "newline"])
def test_a_signature_has_one_spelling(variant: str) -> None:
    value = CANNED.partition("Signature=")[2].partition("&")[0]
    assert value.endswith("__")  # 256 bytes: two of padding
    spelt = {
        "strip": value.rstrip("_"),
        "second": value[:-3] + chr(ord(value[-3]) + 1) + "__",  # other bits where none count
        "standard": value.replace("_", "="),
        "space": value + "%20",
        "newline": value + "\n",
    }[variant]
    with pytest.raises(SignatureInvalid):
        ask(swapped(CANNED, "Signature", spelt))


def test_nothing_is_signed_without_a_signature() -> None:
    for cookie in ("", "a=b", "CloudFront-Theme=1"):
        with pytest.raises(SignatureRequired):
            ask(ADDRESS, cookie=cookie)
    for instead_of_a_query in ("%3F", ";", "/"):
        with pytest.raises(SignatureRequired):
            ask(CANNED.replace("?", instead_of_a_query))


def test_a_signature_in_the_address_decides_whatever_the_cookies_are() -> None:
    good = cookies(SIGNERS["rsa"].cookies(GRANTS["custom"]))
    with pytest.raises(SignatureInvalid):
        ask(ATTACKS["a later end"], cookie=good)
    ask(CANNED, cookie=good.replace("Signature=", "Signature=A"))


def test_two_cookies_of_one_name_are_refused() -> None:
    good = cookies(SIGNERS["rsa"].cookies(GRANTS["custom"]))
    with pytest.raises(SignatureInvalid):
        ask(ADDRESS, cookie=f"{good}; CloudFront-Signature=A")


def test_a_key_taken_away_signs_nothing_any_more() -> None:
    rotated = Verifier({"K2": public_key(EC_PUBLIC)}, [HOST])
    ask(SIGNERS["ecdsa"].url(ADDRESS, expires_s=END_S), verifier=rotated)
    with pytest.raises(SignatureInvalid):
        ask(CANNED, verifier=rotated)


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
def test_a_policy_that_does_not_say_what_it_must_is_refused_although_signed(policy: bytes) -> None:
    class Careless(Policy, frozen=True):
        def policy(self) -> bytes:
            return policy

    careless = Careless(resource="*", expires_s=END_S)
    with pytest.raises(SignatureInvalid):
        ask(SIGNERS["rsa"].url(ADDRESS, careless))


@pytest.mark.parametrize(
    ("resource", "address", "covers"),
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
def test_wildcards_match_as_they_say_and_in_bounded_time(resource: str, address: str, covers: bool) -> None:  # noqa: FBT001 - a table's column
    assert Policy(resource=resource, expires_s=END_S).covers(address) is covers


SOURCES = [CANNED, CUSTOM, *(SIGNERS["ecdsa"].url(ADDRESS, grant) for grant in GRANTS.values())]


def test_no_single_bit_of_a_signed_address_may_differ() -> None:
    for source in SOURCES:
        for place in range(len(HOST), len(source)):
            for bit in range(7):
                mutant = flipped(source, place, bit)
                if not same(mutant, source):
                    assert not is_let_in(VERIFIER, mutant), mutant


def test_a_hundred_thousand_mutations_open_nothing() -> None:
    """Of addresses: bits flipped, characters changed, dropped, doubled, parts exchanged."""
    assert list(itertools.islice(bypasses(VERIFIER, 100_000), 1)) == []


def first_of_two(query: bytes) -> bytes:
    parts = reversed(query.split(b"&"))
    return b"&".join({part.partition(b"=")[0]: part for part in parts}.values())


def any_case(query: bytes) -> bytes:
    names = {name.lower(): name for name in (b"Expires", b"Policy", b"Signature", b"Key-Pair-Id")}
    pairs = (part.partition(b"=") for part in query.split(b"&"))
    return b"&".join(names.get(name.lower(), name) + b"=" + value for name, _, value in pairs)


def marks_alone(query: bytes) -> bytes:
    return b"&".join(part for part in query.split(b"&") if part.partition(b"=")[0].decode() in signing.MARKS)


def without_empty(query: bytes) -> bytes:
    return b"&".join(part for part in query.split(b"&") if part)


@pytest.mark.parametrize("careless", [first_of_two, any_case, marks_alone, without_empty])
def test_the_mutations_find_a_verifier_that_is_careless_of_the_query(
    careless: Callable[[bytes], bytes],
) -> None:
    class Careless(Verifier):
        def verify(self, raw_path: bytes, query: bytes, cookie: bytes, *, client: str, now_s: float) -> None:
            super().verify(raw_path, careless(query), cookie, client=client, now_s=now_s)

    verifier = Careless({"K1": public_key(RSA_PUBLIC), "K2": public_key(EC_PUBLIC)}, [HOST])
    assert next(bypasses(verifier, 100_000), None) is not None


def test_twenty_thousand_mutations_of_cookies_open_nothing() -> None:
    chance = random.Random(20261124)
    sources = [cookies(signer.cookies(grant)) for signer in SIGNERS.values() for grant in GRANTS.values()]
    tried = 0
    while tried < 20_000:
        source = chance.choice(sources)
        mutant = mutated(chance, source, chance.randrange(len(source)))
        if marks_of(mutant) == marks_of(source):
            continue
        tried += 1
        with pytest.raises(Forbidden):
            ask(ADDRESS, cookie=mutant)


def marks_of(cookie: str) -> list[str]:
    """The cookies that are the signature's; spaces around one mean nothing (RFC 6265 §5.4)."""
    parts = (part.strip(" ") for part in cookie.split(";"))
    names = {f"CloudFront-{mark}" for mark in signing.MARKS}
    return sorted(part for part in parts if part.partition("=")[0] in names)


def test_the_mutations_find_a_second_spelling_of_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's base64 ignores the bits that padding leaves over."""

    def decoded(text: str) -> bytes:
        try:
            return base64.b64decode(text.translate(signing._FROM_SAFE), validate=True)
        except ValueError:
            raise SignatureInvalid from None

    monkeypatch.setattr(signing, "_decoded", decoded)
    assert next(bypasses(VERIFIER, 100_000), None) is not None


def bypasses(verifier: Verifier, mutants: int) -> Iterator[str]:
    """Those of so many mutants that are let in, although nobody signed them."""
    chance = random.Random(20261123)
    tried = 0
    while tried < mutants:
        source = chance.choice(SOURCES)
        mutant = mutated(chance, source, chance.randrange(len(HOST), len(source)))
        if same(mutant, source):
            continue
        tried += 1
        if is_let_in(verifier, mutant):
            yield mutant


def is_let_in(verifier: Verifier, address: str) -> bool:
    try:
        ask(address, verifier=verifier)
    except Forbidden:
        return False
    return True


def flipped(source: str, place: int, bit: int) -> str:
    return source[:place] + chr(ord(source[place]) ^ 1 << bit) + source[place + 1 :]


def mutated(chance: random.Random, source: str, place: int) -> str:
    match chance.randrange(5):
        case 0:
            return flipped(source, place, chance.randrange(7))
        case 1:
            return source[:place] + chance.choice("aA09-_~=&?%/*+.") + source[place + 1 :]
        case 2:
            return source[:place] + source[place + 1 :]
        case 3:
            return source[: place + 1] + source[place:]
        case _:
            other = chance.choice((CANNED, CUSTOM))
            return source[:place] + other[place : place + chance.randrange(1, 40)] + source[place + 1 :]


def same(mutant: str, source: str) -> bool:
    """Whether the mutant is still allowed: its signature whole, all else as its `*` lets it be."""
    head, _, query = mutant.partition("?")
    was_head, _, was_query = source.partition("?")
    parts, was_parts = sorted(query.split("&")), sorted(was_query.split("&"))
    if "Policy=" not in source:
        return (head, parts) == (was_head, was_parts)
    names = {part.partition("=")[0] for part in was_parts}
    marks = [part for part in parts if part.partition("=")[0] in names]
    return marks == was_parts and Policy(resource=GALLERY, expires_s=END_S).covers(head)


# keys


def test_only_strong_keys_are_taken() -> None:
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
