"""Signs and verifies CloudFront's signed URLs and cookies. Pure.

- The time and the viewer's address are arguments.
- A signature in the query is there once, in one spelling; an ambiguous one is refused. Of several cookies
  with one name, which a browser sends for several domains and paths, those count that are valid together.
- A policy is parsed only after its signature was verified.

Source: the Amazon CloudFront Developer Guide, "Serve private content with signed URLs and signed cookies".
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import re
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from galerly_cdn.access.policy import Policy
from galerly_cdn.errors import (
    Forbidden,
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
_COOKIE_PREFIX = "CloudFront-"
PARAMETER_NAMES = frozenset({"Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"})
"""The query parameters of a signature; its cookies have these names after `CloudFront-`."""
_HASHES: Mapping[str | None, type[hashes.SHA1 | hashes.SHA256]] = {
    None: hashes.SHA1,
    "SHA1": hashes.SHA1,
    "SHA256": hashes.SHA256,
}
_MAX_ENCODED = 4096
_MAX_COOKIE_SETS = 64
"""Combinations of cookies that are tried: enough for two signatures. Each costs one verification."""
_EXPIRES = re.compile(r"[1-9][0-9]{0,11}")
_TO_SAFE = str.maketrans("+=/", "-_~")
_FROM_SAFE = str.maketrans("-_~", "+=/")
_SAFE = re.compile(r"[A-Za-z0-9\-_~]+")


class Signer:
    """Signs with one private key; the verifier finds the public key by `key_id`."""

    def __init__(self, key_id: str, private_pem: bytes) -> None:
        """Raises `ValueError` unless it is an unencrypted RSA key of 2048 bits or more, or ECDSA on P-256."""
        try:
            key = serialization.load_pem_private_key(private_pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from error
        if not isinstance(key, PrivateKey):
            raise ValueError(_WRONG_KEY)  # noqa: TRY004 - a file's content, not an argument's type
        _check_strength(key.public_key())
        self.key_id = key_id
        self._key = key

    def is_pair_of(self, public: PublicKey) -> bool:
        """Whether a public key verifies what this signs."""
        return self._key.public_key() == public

    def parameters(self, policy: Policy) -> dict[str, str]:
        """The signature's query parameters by name, with SHA-256."""
        document = policy.document()
        algorithm = hashes.SHA256()
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(document, padding.PKCS1v15(), algorithm)
        else:
            signature = self._key.sign(document, ec.ECDSA(algorithm))
        expires_or_policy = (
            {"Expires": str(policy.expires_s)} if policy.is_canned else {"Policy": _encode(document)}
        )
        return {
            **expires_or_policy,
            "Signature": _encode(signature),
            "Key-Pair-Id": self.key_id,
            "Hash-Algorithm": "SHA256",
        }

    def url(self, address: str, policy: Policy | None = None, *, expires_s: int = 0) -> str:
        """`address` with the signature of `policy`, or else of the address alone until `expires_s`."""
        signed = policy or Policy(resource=address, expires_s=expires_s)
        separator = "&" if "?" in address else "?"
        parameters = "&".join(f"{name}={value}" for name, value in self.parameters(signed).items())
        return f"{address}{separator}{parameters}"

    def cookies(self, policy: Policy) -> dict[str, str]:
        """The signature as cookies, by name."""
        return {_COOKIE_PREFIX + name: value for name, value in self.parameters(policy).items()}


class SignatureParameters(NamedTuple):
    """The parameters of a request's signature by name, and the rest of the query, which it signs too."""

    values: Mapping[str, str]
    query: str


class Verifier:
    """Verifies signatures by public keys, for addresses on `public_urls` (scheme and host)."""

    def __init__(self, public_keys: Mapping[str, PublicKey], public_urls: Iterable[str]) -> None:
        """`public_keys` are by their id."""
        self._keys = dict(public_keys)
        self._public_urls = tuple(one.rstrip("/") for one in public_urls)

    def verify(self, raw_path: bytes, query: bytes, cookie: bytes, *, client: str, now_s: float) -> None:
        """Return if the address is signed for this viewer now; a signature in the query takes precedence.

        Raises `SignatureRequired`, `SignatureInvalid`, `SignatureExpired`, `SignatureTooEarly`,
        `SignatureWrongClient`.
        """
        path = raw_path.decode("latin-1")
        in_query = _from_query(query)
        refusal: Forbidden = SignatureRequired()
        for signature in [in_query] if in_query else _from_cookies(cookie, query):
            try:
                self._verify(signature, path, client, now_s)
            except Forbidden as error:
                if not isinstance(error, SignatureInvalid) or isinstance(refusal, SignatureRequired):
                    refusal = error  # of an expired and an unknown signature, the expired one explains more
            else:
                return
        raise refusal

    def _verify(self, signature: SignatureParameters, path: str, client: str, now_s: float) -> None:
        """Raises as `verify`."""
        verify = self._verify_canned if "Expires" in signature.values else self._verify_custom
        policy = verify(signature, path)
        if now_s >= policy.expires_s:
            raise SignatureExpired
        if policy.starts_s is not None and now_s < policy.starts_s:
            raise SignatureTooEarly
        if not policy.allows_client(client):
            raise SignatureWrongClient

    def _verify_canned(self, signature: SignatureParameters, path: str) -> Policy:
        """The policy of the address itself, rebuilt for every host that it may have been signed for."""
        expires = signature.values["Expires"]
        if "Policy" in signature.values or not _EXPIRES.fullmatch(expires):
            raise SignatureInvalid
        path_and_query = f"{path}?{signature.query}" if signature.query else path
        for public_url in self._public_urls:
            policy = Policy(resource=public_url + path_and_query, expires_s=int(expires))
            if self._is_signature_of(signature, policy.document()):
                return policy
        raise SignatureInvalid

    def _verify_custom(self, signature: SignatureParameters, path: str) -> Policy:
        """The policy that was sent, if it is signed and matches this address.

        It has to match without the query too: otherwise a `*` could match text in an unsigned query.
        """
        document = _decode(signature.values.get("Policy", ""))
        if not self._is_signature_of(signature, document):
            raise SignatureInvalid
        policy = Policy.parse(document)
        for public_url in self._public_urls:
            bare = public_url + path
            if policy.matches(bare) and (not signature.query or policy.matches(f"{bare}?{signature.query}")):
                return policy
        raise SignatureInvalid

    def _is_signature_of(self, signature: SignatureParameters, document: bytes) -> bool:
        """Raises `SignatureInvalid` for an unknown key or algorithm, and for malformed base64."""
        key = self._keys.get(signature.values.get("Key-Pair-Id", ""))
        algorithm = _HASHES.get(signature.values.get("Hash-Algorithm"))
        if key is None or algorithm is None:
            raise SignatureInvalid
        signed = _decode(signature.values.get("Signature", ""))
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signed, document, padding.PKCS1v15(), algorithm())
            else:
                key.verify(signed, document, ec.ECDSA(algorithm()))
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
        raise ValueError(_WRONG_KEY)  # noqa: TRY004 - a file's content, not an argument's type
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


_WRONG_KEY = f"neither RSA of {MIN_RSA_BITS} bits or more nor ECDSA on P-256"


def _check_strength(key: PublicKey) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        is_strong = key.key_size >= MIN_RSA_BITS
    else:
        is_strong = isinstance(key.curve, ec.SECP256R1)
    if not is_strong:
        raise ValueError(_WRONG_KEY)


def _from_query(query: bytes) -> SignatureParameters | None:
    """The signature in a query. Raises `SignatureInvalid` for a repeated parameter."""
    values: dict[str, str] = {}
    rest = []
    for part in query.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        if name not in PARAMETER_NAMES:
            rest.append(part)
        elif name in values:
            raise SignatureInvalid
        else:
            values[name] = value
    if values and "" in rest:  # `?&` would be a second spelling of an address without a query
        raise SignatureInvalid
    return SignatureParameters(values, "&".join(rest)) if values else None


def _from_cookies(cookie: bytes, query: bytes) -> list[SignatureParameters]:
    """The signatures that a `Cookie` header may hold: every combination of its cookies, one of each name.

    A name that is given less often than another may be absent from a combination. Raises `SignatureInvalid`
    for more than `_MAX_COOKIE_SETS`.
    """
    given: dict[str, list[str]] = {}
    for part in cookie.decode("latin-1").split(";"):
        cookie_name, _, value = part.strip(" ").partition("=")
        name = cookie_name.removeprefix(_COOKIE_PREFIX)
        if name != cookie_name and name in PARAMETER_NAMES:
            given.setdefault(name, []).append(value)
    if not given:
        return []
    most = max(len(values) for values in given.values())
    choices: list[list[str | None]] = [
        [*dict.fromkeys(values), *([None] if len(values) < most else [])] for values in given.values()
    ]
    if math.prod(map(len, choices)) > _MAX_COOKIE_SETS:
        raise SignatureInvalid
    return [
        SignatureParameters(
            {name: value for name, value in zip(given, chosen, strict=True) if value is not None},
            query.decode("latin-1"),
        )
        for chosen in itertools.product(*choices)
    ]


def _encode(raw: bytes) -> str:
    """CloudFront's base64: `-_~` in place of `+=/`, with padding."""
    return base64.b64encode(raw).decode("ascii").translate(_TO_SAFE)


def _decode(text: str) -> bytes:
    """The inverse of `_encode`; every value has one spelling. Raises `SignatureInvalid`."""
    if len(text) > _MAX_ENCODED or not _SAFE.fullmatch(text):
        raise SignatureInvalid
    try:
        raw = base64.b64decode(text.translate(_FROM_SAFE), validate=True)
    except binascii.Error:
        raise SignatureInvalid from None
    if _encode(raw) != text:  # ignored padding bits would be a second spelling
        raise SignatureInvalid
    return raw
