"""Has somebody who holds a private key allowed this address? CloudFront's signed URLs and cookies.

- Pure: the time and the viewer's address are arguments. cryptography's door.
- A signature is in the query or in cookies, once, in one spelling; anything doubtful is refused.
- Nothing of a policy is read before its signature holds.

Source: the Amazon CloudFront Developer Guide, "Serve private content with signed URLs and signed cookies".
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from galerly_cdn.access.policy import Policy
from galerly_cdn.errors import (
    SignatureExpired,
    SignatureInvalid,
    SignatureRequired,
    SignatureTooEarly,
    SignatureWrongClient,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

MIN_RSA_BITS = 2048
_COOKIE = "CloudFront-"
MARKS = frozenset({"Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"})
"""Names of the parameters that are a signature."""
_HASHES: Mapping[str | None, type[hashes.SHA1 | hashes.SHA256]] = {
    None: hashes.SHA1,
    "SHA1": hashes.SHA1,
    "SHA256": hashes.SHA256,
}
_MAX_ENCODED = 4096
_EXPIRES = re.compile(r"[1-9][0-9]{0,11}")
_TO_SAFE = str.maketrans("+=/", "-_~")
_FROM_SAFE = str.maketrans("-_~", "+=/")
_SAFE = re.compile(r"[A-Za-z0-9\-_~]+")


class Signer:
    """Signs with one private key, whose id the verifier knows it by."""

    def __init__(self, key_id: str, private_pem: bytes) -> None:
        """Raises `ValueError` for what is no unencrypted private key of a kind and strength in use."""
        try:
            key = serialization.load_pem_private_key(private_pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from error
        if not isinstance(key, PrivateKey):
            raise ValueError(_KINDS)  # noqa: TRY004 - a file's content, not an argument's type
        _check_strength(key.public_key())
        self.key_id = key_id
        self._key = key

    def parameters(self, grant: Policy) -> dict[str, str]:
        """The signature's parameters by name, SHA-256; as cookies their names start with `CloudFront-`."""
        policy = grant.policy()
        chosen = hashes.SHA256()
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(policy, padding.PKCS1v15(), chosen)
        else:
            signature = self._key.sign(policy, ec.ECDSA(chosen))
        told = {"Expires": str(grant.expires_s)} if grant.is_canned else {"Policy": _encoded(policy)}
        return {
            **told,
            "Signature": _encoded(signature),
            "Key-Pair-Id": self.key_id,
            "Hash-Algorithm": "SHA256",
        }

    def url(self, address: str, grant: Policy | None = None, *, expires_s: int = 0) -> str:
        """`address` with a signature: of `grant`, or of the address alone until `expires_s`."""
        chosen = grant or Policy(resource=address, expires_s=expires_s)
        joint = "&" if "?" in address else "?"
        told = "&".join(f"{name}={value}" for name, value in self.parameters(chosen).items())
        return f"{address}{joint}{told}"

    def cookies(self, grant: Policy) -> dict[str, str]:
        """The signature as cookies, by name."""
        return {_COOKIE + name: value for name, value in self.parameters(grant).items()}


class SignatureParameters(NamedTuple):
    """A signature as it was sent, and the rest of the query that it stands for."""

    marks: Mapping[str, str]
    query: str


class Verifier:
    """Knows the public keys by id, and the schemes and hosts that addresses may have been signed for."""

    def __init__(self, public_keys: Mapping[str, PublicKey], public_urls: Iterable[str]) -> None:
        self._keys = dict(public_keys)
        self._public_urls = tuple(one.rstrip("/") for one in public_urls)

    def verify(self, raw_path: bytes, query: bytes, cookie: bytes, *, client: str, now_s: float) -> None:
        """Return if the address is signed for this viewer now; a signature in the query goes first.

        Raises `SignatureRequired`, `SignatureInvalid`, `SignatureExpired`, `SignatureTooEarly`,
        `SignatureWrongClient`.
        """
        signed = _in_query(query) or _in_cookies(cookie, query)
        if signed is None:
            raise SignatureRequired
        path = raw_path.decode("latin-1")
        grant = self._canned(signed, path) if "Expires" in signed.marks else self._custom(signed, path)
        if now_s >= grant.expires_s:
            raise SignatureExpired
        if grant.starts_s is not None and now_s < grant.starts_s:
            raise SignatureTooEarly
        if not grant.admits(client):
            raise SignatureWrongClient

    def _canned(self, signed: SignatureParameters, path: str) -> Policy:
        """The address itself, rebuilt for every host it may have been signed for."""
        expires = signed.marks["Expires"]
        if "Policy" in signed.marks or not _EXPIRES.fullmatch(expires):
            raise SignatureInvalid
        tail = f"{path}?{signed.query}" if signed.query else path
        for public_url in self._public_urls:
            grant = Policy(resource=public_url + tail, expires_s=int(expires))
            if self._holds(signed, grant.policy()):
                return grant
        raise SignatureInvalid

    def _custom(self, signed: SignatureParameters, path: str) -> Policy:
        """The policy, if it is signed and speaks of this address.

        It has to match without the query too: a `*` would else find what it names in an unsigned query.
        """
        policy = _decoded(signed.marks.get("Policy", ""))
        if not self._holds(signed, policy):
            raise SignatureInvalid
        grant = Policy.read(policy)
        for public_url in self._public_urls:
            bare = public_url + path
            if grant.covers(bare) and (not signed.query or grant.covers(f"{bare}?{signed.query}")):
                return grant
        raise SignatureInvalid

    def _holds(self, signed: SignatureParameters, policy: bytes) -> bool:
        key = self._keys.get(signed.marks.get("Key-Pair-Id", ""))
        chosen = _HASHES.get(signed.marks.get("Hash-Algorithm"))
        if key is None or chosen is None:
            raise SignatureInvalid
        signature = _decoded(signed.marks.get("Signature", ""))
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, policy, padding.PKCS1v15(), chosen())
            else:
                key.verify(signature, policy, ec.ECDSA(chosen()))
        except InvalidSignature:
            return False
        return True


def public_key(pem: bytes) -> PublicKey:
    """A public key. Raises `ValueError` unless it is RSA of 2048 bits or more, or ECDSA on P-256."""
    try:
        key = serialization.load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, PublicKey):
        raise ValueError(_KINDS)  # noqa: TRY004 - a file's content, not an argument's type
    _check_strength(key)
    return key


def new_pair(*, ecdsa: bool) -> tuple[bytes, bytes]:
    """A new public and private key, each as PEM: RSA-2048, or ECDSA on P-256."""
    key: PrivateKey
    if ecdsa:
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return public, private


_KINDS = f"neither RSA of {MIN_RSA_BITS} bits or more nor ECDSA on P-256"


def _check_strength(key: PublicKey) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        is_strong = key.key_size >= MIN_RSA_BITS
    else:
        is_strong = isinstance(key.curve, ec.SECP256R1)
    if not is_strong:
        raise ValueError(_KINDS)


def _in_query(query: bytes) -> SignatureParameters | None:
    """The signature in a query, and the query without it. Raises `SignatureInvalid` if one is doubled."""
    marks: dict[str, str] = {}
    rest = []
    for part in query.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        if name not in MARKS:
            rest.append(part)
        elif name in marks:
            raise SignatureInvalid
        else:
            marks[name] = value
    if marks and "" in rest:  # `?&` would be a second spelling of an address without a query
        raise SignatureInvalid
    return SignatureParameters(marks, "&".join(rest)) if marks else None


def _in_cookies(cookie: bytes, query: bytes) -> SignatureParameters | None:
    """The signature in a `Cookie` header. Raises `SignatureInvalid` if one is doubled."""
    marks: dict[str, str] = {}
    for part in cookie.decode("latin-1").split(";"):
        name, _, value = part.strip(" ").partition("=")
        mark = name.removeprefix(_COOKIE)
        if mark == name or mark not in MARKS:
            continue
        if mark in marks:
            raise SignatureInvalid
        marks[mark] = value
    return SignatureParameters(marks, query.decode("latin-1")) if marks else None


def _encoded(raw: bytes) -> str:
    """CloudFront's base64: `+=/` as `-_~`, padding kept."""
    return base64.b64encode(raw).decode("ascii").translate(_TO_SAFE)


def _decoded(text: str) -> bytes:
    """The inverse of `_encoded`: one spelling for every value. Raises `SignatureInvalid`."""
    if len(text) > _MAX_ENCODED or not _SAFE.fullmatch(text):
        raise SignatureInvalid
    try:
        raw = base64.b64decode(text.translate(_FROM_SAFE), validate=True)
    except binascii.Error:
        raise SignatureInvalid from None
    if _encoded(raw) != text:  # padding bits that are ignored would be a second spelling
        raise SignatureInvalid
    return raw
