"""Renders the CloudFormation template: `template.yaml` with the settings of an installation.

This module writes what the settings decide: sizes, private prefixes, keys, headers and the functions' code.
What an operator decides at deployment is a parameter of the template.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from galerly_cdn.access import keys as keyring
from galerly_cdn.aws.deploy import recipes
from galerly_cdn.aws.viewer import source as viewer
from galerly_cdn.errors import SettingsError, UnknownPath
from galerly_cdn.http import responses
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import DESCRIBED, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.settings.table import Settings

MAX_KEYS = 5
"""CloudFront quota: public keys in a key group."""
MAX_BEHAVIORS = 75
"""CloudFront quota: cache behaviours of a distribution, here with the default one."""
MAX_BYTES = 1_000_000
"""CloudFormation quota: a template in a bucket."""
_BUCKET_NAMES = {
    "      BucketName: !Ref BucketName\n": "{}",
    "      BucketName: !Sub '${BucketName}-logs'\n": "{}-logs",
}
"""The lines that name the buckets, and the names that they give."""
_PREFIX = re.compile(r"[A-Za-z0-9_.~/$'@:+&-]+")
"""The characters of CloudFront's path patterns, without the wildcards."""
_FUNCTION_SETTINGS = (
    "sizes",
    "warm_sizes",
    "keep_copyright",
    "max_megapixels",
    "max_original_bytes",
    "max_frames",
    "max_coefficient_bytes",
    "lost_header",
)
"""The settings that the functions read from their environment. Default values are left out there."""


class TemplateKey(Value, frozen=True):
    """A public key of the key group: its logical name in the template, and the name of its file."""

    name: str
    id: str
    pem: str

    @property
    def digest(self) -> str:
        """The digest of its PEM, which its logical name contains."""
        return self.name.removeprefix("Key")

    @property
    def output(self) -> str:
        """The name of the stack's output with CloudFront's own ID of the key."""
        return f"{self.name}Id"


class TemplateBehavior(Value, frozen=True):
    """A cache behaviour of the distribution, for a path pattern.

    `is_signed` requires a signature; `is_original` serves originals rather than renditions.
    """

    pattern: str
    is_signed: bool = False
    is_original: bool = False

    @property
    def events(self) -> tuple[str, ...]:
        """The events of the viewer function; it changes the stored Cache-Control in the viewer response."""
        changes_response = self.is_signed or self.is_original
        return ("viewer-request", "viewer-response") if changes_response else ("viewer-request",)

    @property
    def origin(self) -> str:
        """The ID of the origin, or of the group in which the resizer answers what S3 lacks.

        The resizer makes no original, and CloudFront's signature for it fails for a path with an escape.
        """
        return "s3" if self.is_original else "s3-else-resizer"

    @property
    def headers(self) -> str:
        """The logical name of its response headers policy."""
        return (
            ("Private" if self.is_signed else "Public") + ("Original" if self.is_original else "") + "Headers"
        )


class EdgeFunction(Value, frozen=True):
    """The viewer function as a Lambda@Edge function; its version's logical name changes with the code."""

    name: str
    source: str

    @property
    def version(self) -> str:
        return f"{self.name}Version{_digest(self.source)}"


def render(settings: Settings, *, with_lambda_edge: bool = False) -> str:
    """The template for these settings: YAML without transforms.

    `with_lambda_edge` runs the viewer function as Lambda@Edge instead of CloudFront Functions, which is
    slower and costs six times as much on every request.

    Raises `SettingsError` for private prefixes that a path pattern cannot contain or that are too many, for
    unfit keys, and for settings that make the viewer function too large.
    """
    signers = list(keys(settings))
    behaviors = list(_behaviors(settings, has_keys=bool(signers)))
    if (count := len(behaviors) + 1) > MAX_BEHAVIORS:
        problem = f"they need {count} cache behaviours, and CloudFront's quota is {MAX_BEHAVIORS}"
        raise SettingsError([f"private_prefixes: {problem}; move folders under one prefix"])
    edges = [
        EdgeFunction("ViewerEdge", viewer.lambda_edge(settings, signed=False)),
        EdgeFunction("PrivateViewerEdge", viewer.lambda_edge(settings, signed=True)),
    ]
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - YAML with checked settings
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
        recipes=recipes.recipes(settings),
        private_viewer=viewer.function(settings, signed=True).rstrip(),
        viewer=viewer.function(settings, signed=False).rstrip(),
    )


def parameters(text: str) -> tuple[str, ...]:
    """The names of a rendered template's parameters."""
    _, _, section = text.partition("\nParameters:\n")
    return tuple(re.findall(r"^  (\w+):$", section.partition("\n\n")[0], re.MULTILINE))


def with_literal_names(text: str, bucket: str) -> str:
    """A rendered template whose buckets have their names as text, as an automatic import needs them.

    CloudFormation User Guide, "Import AWS resources into a CloudFormation stack automatically".
    """
    for name, literal in _BUCKET_NAMES.items():
        if text.count(name) != 1:
            raise ValueError(f"the template has {name!r} {text.count(name)} times")
        text = text.replace(name, f"      BucketName: {literal.format(bucket)}\n")
    return text


def keys(settings: Settings) -> Iterator[TemplateKey]:
    """The public keys that verify signatures. Raises `SettingsError` for unfit keys."""
    if not settings.public_keys and not settings.private_prefixes:
        return
    loaded = keyring.load_public_keys(Path(settings.public_keys))
    if len(loaded) > MAX_KEYS:
        raise SettingsError([f"public_keys: CloudFront takes {MAX_KEYS} keys at once, got {len(loaded)}"])
    for key_id in loaded:
        pem = Path(settings.public_keys, f"{key_id}.pem").read_text("ascii").strip()
        yield TemplateKey(f"Key{_digest(pem)}", key_id, pem)


def _behaviors(settings: Settings, *, has_keys: bool) -> Iterator[TemplateBehavior]:
    """A behaviour for every private prefix (its `*` is the size), then the public ones.

    CloudFront takes the first that matches. A private path in another percent-encoding does not match its
    pattern; the viewer function of a later behaviour refuses it.
    """
    prefixes = [_pattern_prefix(prefix) for prefix in settings.private_prefixes]
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


def _pattern_prefix(prefix: str) -> str:
    """A private prefix as part of a path pattern: `/clients`, or empty for `/`. Raises `SettingsError`."""
    if prefix == "/":
        return ""
    if not _PREFIX.fullmatch(prefix):
        characters = "A-Z a-z 0-9 _.~$'@:+&-"
        problem = f"CloudFront's path patterns cannot contain {prefix!r}; use only {characters}"
        raise SettingsError([f"private_prefixes: {problem}"])
    return f"/{prefix}"


def _environment(settings: Settings) -> dict[str, str]:
    """libvips' variables, as worker processes have them, and the settings that `settings.load` reads."""
    defaults = {setting.name: setting.default for setting in DESCRIBED}
    values = {name: getattr(settings, name) for name in _FUNCTION_SETTINGS}
    changed = {
        PREFIX + name.upper(): _to_variable(value)
        for name, value in values.items()
        if value != defaults[name]
    }
    return fork_server_process.ENVIRONMENT | changed


def _to_variable(value: object) -> str:
    return ";".join(value) if isinstance(value, tuple) else str(value).lower()


def _embedding(settings: Settings) -> dict[str, str]:
    """The headers that CloudFront adds, with the values that the edge on one machine sends."""
    headers = dict(responses.failure(UnknownPath(), "", settings).headers)
    return {
        "allow_origin": settings.allow_origin,
        "timing_allow_origin": settings.timing_allow_origin,
        "resource_policy": settings.resource_policy,
        "security_policy": headers[b"content-security-policy"].decode(),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
