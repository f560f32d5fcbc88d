"""The CloudFormation template of an installation: `template.yaml` with its settings written in.

What the settings decide (sizes, private prefixes, keys, headers, the functions' code) is written by
this module; what an operator decides at deployment is a parameter of the template.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from galerly_cdn.access import keys as keyring
from galerly_cdn.aws.viewer import source as viewer
from galerly_cdn.errors import SettingsError, UnknownPath
from galerly_cdn.http import responses
from galerly_cdn.render.pool import process
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import DESCRIBED, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.settings.table import Settings

MAX_KEYS = 5
"""CloudFront quota: public keys in a key group."""
_PREFIX = re.compile(r"[A-Za-z0-9_.~/$'@:+&-]+")
"""What CloudFront's path patterns spell, less their wildcards."""
_RENDERING = (
    "sizes",
    "keep_copyright",
    "max_megapixels",
    "max_original_bytes",
    "max_frames",
    "max_coefficient_bytes",
    "lost_header",
)
"""The settings that the functions read from their environment, where they are not the default."""


class TemplateKey(Value, frozen=True):
    """A public key of the key group: its logical name in the template, and the name of its file."""

    name: str
    id: str
    pem: str

    @property
    def output(self) -> str:
        """The name of the stack's output that tells CloudFront's own ID of it."""
        return f"{self.name}Id"


class TemplateBehavior(Value, frozen=True):
    """A cache behaviour: for which addresses, whether it asks for a signature, what it hands out."""

    pattern: str
    is_signed: bool = False
    is_original: bool = False

    @property
    def events(self) -> tuple[str, ...]:
        """When the viewer function runs: after the answer too, where Cache-Control is not as stored."""
        is_told = self.is_signed or self.is_original
        return ("viewer-request", "viewer-response") if is_told else ("viewer-request",)

    @property
    def headers(self) -> str:
        """The logical name of its headers policy."""
        return (
            ("Private" if self.is_signed else "Public") + ("Original" if self.is_original else "") + "Headers"
        )


class EdgeFunctions(Value, frozen=True):
    """The viewer function as a Lambda@Edge function; its version's logical name changes with the code."""

    name: str
    source: str

    @property
    def version(self) -> str:
        return f"{self.name}Version{_digest(self.source)}"


def render(settings: Settings, *, with_lambda_edge: bool = False) -> str:
    """The template for these settings, a YAML document without transforms.

    `with_lambda_edge` runs the viewer function as Lambda@Edge instead of CloudFront Functions: slower,
    and six times the price, on every request.

    Raises `SettingsError` for private prefixes that no path pattern can spell, for keys that are unfit,
    and for settings that make the viewer function too large.
    """
    signers = list(keys(settings))
    behaviors = list(_behaviors(settings, has_keys=bool(signers)))
    edges = [
        EdgeFunctions("ViewerEdge", viewer.lambda_edge(settings, signed=False)),
        EdgeFunctions("PrivateViewerEdge", viewer.lambda_edge(settings, signed=True)),
    ]
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - YAML, of settings that are checked
        keep_trailing_newline=True,
        line_statement_prefix="#%",
        undefined=jinja2.StrictUndefined,
    )
    text = resources.files("galerly_cdn.aws.deploy").joinpath("template.yaml").read_text("utf-8")
    return environment.from_string(text).render(
        embedding=_embedding(settings),
        environment=_environment(settings),
        headers=sorted({"PublicHeaders", *(one.headers for one in behaviors)}),
        edges=edges[: 1 + bool(signers)] if with_lambda_edge else [],
        behaviors=behaviors,
        keys=signers,
        private_prefixes=list(settings.private_prefixes),
        private_viewer=viewer.function(settings, signed=True).rstrip(),
        viewer=viewer.function(settings, signed=False).rstrip(),
    )


def parameters(text: str) -> tuple[str, ...]:
    """The names of a rendered template's parameters."""
    _, _, section = text.partition("\nParameters:\n")
    return tuple(re.findall(r"^  (\w+):$", section.partition("\n\n")[0], re.MULTILINE))


def keys(settings: Settings) -> Iterator[TemplateKey]:
    """The public keys that signatures are verified by. Raises `SettingsError` for keys that are unfit."""
    if not settings.public_keys and not settings.private_prefixes:
        return
    loaded = keyring.load_public_keys(Path(settings.public_keys))
    if len(loaded) > MAX_KEYS:
        raise SettingsError([f"public_keys: CloudFront takes {MAX_KEYS} keys at once, got {len(loaded)}"])
    for key_id in loaded:
        pem = Path(settings.public_keys, f"{key_id}.pem").read_text("ascii").strip()
        yield TemplateKey(f"Key{_digest(pem)}", key_id, pem)


def _behaviors(settings: Settings, *, has_keys: bool) -> Iterator[TemplateBehavior]:
    """One for every private prefix (its `*` is the size), then the public ones. CloudFront takes the first.

    What a pattern misses because it is spelt otherwise, the function of a later behaviour refuses.
    """
    prefixes = [_spoken(prefix) for prefix in settings.private_prefixes]
    yield from (TemplateBehavior(f"/resize/*{prefix}/*", is_signed=True) for prefix in prefixes if prefix)
    yield TemplateBehavior("/resize/*", is_signed="" in prefixes)
    if settings.sign_originals or "" in prefixes:
        if has_keys:
            yield TemplateBehavior("/original/*", is_signed=True, is_original=True)
        return
    yield from (
        TemplateBehavior(f"/original{prefix}/*", is_signed=True, is_original=True) for prefix in prefixes
    )
    yield TemplateBehavior("/original/*", is_original=True)


def _spoken(prefix: str) -> str:
    """A private prefix as a part of a pattern: `/clients`, empty for all. Raises `SettingsError`."""
    if prefix == "/":
        return ""
    if not _PREFIX.fullmatch(prefix):
        spelt = "A-Z a-z 0-9 _.~$'@:+&-"
        problem = f"CloudFront's path patterns cannot spell {prefix!r}; write {spelt}"
        raise SettingsError([f"private_prefixes: {problem}"])
    return f"/{prefix}"


def _environment(settings: Settings) -> dict[str, str]:
    """libvips' variables, as workers have them, and the settings, as `layers.load` reads them."""
    defaults = {setting.name: setting.default for setting in DESCRIBED}
    chosen = {name: getattr(settings, name) for name in _RENDERING}
    told = {PREFIX + name.upper(): _spelt(value) for name, value in chosen.items() if value != defaults[name]}
    return process.ENVIRONMENT | told


def _spelt(value: object) -> str:
    return ";".join(value) if isinstance(value, tuple) else str(value).lower()


def _embedding(settings: Settings) -> dict[str, str]:
    """The headers that CloudFront adds, as the edge on one machine would send them."""
    headers = dict(responses.failure(UnknownPath(), "", settings).headers)
    return {
        "allow_origin": settings.allow_origin,
        "timing_allow_origin": settings.timing_allow_origin,
        "resource_policy": settings.resource_policy,
        "security_policy": headers[b"content-security-policy"].decode(),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
