"""How does an installation become a stack? Built, uploaded, proposed as a change set, executed.

Each step is a method that the command calls, so that it can show and ask in between.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.aws.deploy import build, change_set, template
from galerly_cdn.aws.deploy import code_bucket as codebucket
from galerly_cdn.aws.deploy.code_bucket import CodeBucket
from galerly_cdn.aws.deploy.stack import ChangeSetRequest, Stack
from galerly_cdn.errors import DeploymentFailed, SettingsError
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws.deploy.change_set import ChangeSet
    from galerly_cdn.aws.deploy.stack import StackState
    from galerly_cdn.settings.table import Settings

MAX_BODY_BYTES = 51_200
"""CloudFormation: a template's body in a call. A larger one it fetches from a bucket."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,49}")
"""Our bound, below CloudFormation's 128: names of resources begin with it, and functions' have 64."""


class DeploymentRequest(Value, frozen=True):
    """What the command was told. `parameters` are the template's; those left out stay as they were."""

    stack: str
    parameters: dict[str, str]
    code_bucket: str = ""
    role: str = ""
    takes_over: bool = False


class Package(Value, frozen=True):
    """What is to be uploaded: files by the keys that their hashes give them."""

    code_key: str
    code: str
    code_bytes: int
    template_key: str
    template: str
    template_bytes: int

    @property
    def is_by_address(self) -> bool:
        """Whether the template is too large for a call."""
        return self.template_bytes > MAX_BODY_BYTES

    def files(self) -> dict[str, Path]:
        """By their keys in the code bucket."""
        by_address = {self.template_key: Path(self.template)} if self.is_by_address else {}
        return {self.code_key: Path(self.code)} | by_address


def checked_request(wanted: DeploymentRequest) -> DeploymentRequest:
    """Itself. Raises `SettingsError` for a name that resources cannot begin with."""
    if not _NAME.fullmatch(wanted.stack):
        raise SettingsError([f"--stack: {wanted.stack!r} is no name: letters, digits and `-`, at most 50"])
    return wanted


def without_avif(settings: Settings) -> Settings:
    """The same sizes without AVIF, the slowest to make: for those who pay for Lambda's time."""
    lines = (line.split() for line in settings.sizes)
    kept = tuple(" ".join(word for word in line if not word.startswith("avif=")) for line in lines)
    return replaced(settings, sizes=kept)


def package(settings: Settings, out: Path, *, with_lambda_edge: bool) -> Package:
    """Build into `out`. Raises as `build.build` does."""
    built = build.build(settings, out, with_lambda_edge=with_lambda_edge)
    content = Path(built.template).read_bytes()
    return Package(
        code_key=f"code/{built.sha256}.zip",
        code=built.zip,
        code_bytes=built.zip_bytes,
        template_key=f"template/{hashlib.sha256(content).hexdigest()}.yaml",
        template=built.template,
        template_bytes=len(content),
    )


class Deployment:
    """One deployment of a package; it knows the account's part of it. Methods raise `AwsRefused`."""

    def __init__(self, wanted: DeploymentRequest, package: Package, stack: Stack) -> None:
        self._wanted = wanted
        self._package = package
        self._stack = stack
        self._account = codebucket.account_id()
        self.state = stack.state()
        known = self._known()
        name = wanted.code_bucket or (known or {}).get("CodeBucket") or f"galerly-cdn-code-{self._account}"
        self.bucket = CodeBucket(name, self._account)
        self.parameters = parameters(wanted, package, known, name, self._account)
        self._is_bucket_there = self.bucket.is_there()
        has = self.bucket.has if self._is_bucket_there else (lambda _key: False)
        self.uploads = {key: file for key, file in package.files().items() if not has(key)}

    @property
    def is_new(self) -> bool:
        return self.state is None or self.state.is_new or self.state.is_leftover

    def _known(self) -> Mapping[str, str] | None:
        return None if self.is_new or self.state is None else self.state.parameters

    def check(self) -> None:
        """Raises `DeploymentFailed` while somebody else changes the stack, or for a bucket that is there."""
        if self.state is not None and self.state.status.endswith("_IN_PROGRESS") and not self.state.is_new:
            raise DeploymentFailed(f"{self.state.status}: another operation is under way; wait for its end")
        if not self.is_new or self._wanted.takes_over:
            return
        name = self.parameters["BucketName"] or ""
        for one in (name, f"{name}-logs"):
            if CodeBucket(one, self._account).is_there():
                raise DeploymentFailed(
                    f"the bucket {one} exists already. --take-over makes it part of the stack: its keys stay "
                    "as they are, its policy and lifecycle become the template's"
                )

    def upload(self) -> None:
        if not self._is_bucket_there:
            self.bucket.make()
        for key, file in self.uploads.items():
            self.bucket.put(key, file)

    def propose(self) -> ChangeSet | None:
        """A change set, once what it names is uploaded; None where nothing would change."""
        if self.state is not None and self.state.is_leftover:
            self._stack.delete(self.state.arn)
        package = self._package
        request = ChangeSetRequest(
            template=Path(package.template).read_text("utf-8"),
            template_url=self.bucket.address(package.template_key) if package.is_by_address else "",
            parameters=self.parameters,
            role=self._wanted.role,
            takes_over=self._wanted.takes_over,
        )
        return self._stack.propose(request, f"galerly-{uuid.uuid4().hex[:12]}", is_new=self.is_new)

    def opened(self, settings: Settings) -> tuple[str, ...]:
        """The private prefixes that anybody could see after it."""
        before = () if self.is_new else self._stack.private_prefixes()
        return change_set.newly_public(before, settings.private_prefixes)

    def withdraw(self, proposed: ChangeSet) -> None:
        self._stack.withdraw(proposed.arn, is_new=self.is_new)

    def execute(self, proposed: ChangeSet) -> StackState:
        """Raises `DeploymentFailed`, too."""
        return self._stack.execute(proposed)


def parameters(
    wanted: DeploymentRequest,
    package: Package,
    known: Mapping[str, str] | None,
    code_bucket: str,
    account: str,
) -> dict[str, str | None]:
    """The template's parameters: what was told, else as it is, else the template's default (left out).

    `known` are those of the stack, None for a new one. Raises `SettingsError` for what the template has not.
    """
    names = template.parameters(Path(package.template).read_text("utf-8"))
    unknown = sorted(set(wanted.parameters) - set(names))
    if unknown:
        raise SettingsError([f"--set: the template has no parameter {name}" for name in unknown])
    told: dict[str, str | None] = {name: None for name in names if name in (known or {})}
    if known is None:
        told["BucketName"] = f"{wanted.stack.lower()}-{account}"
    return told | wanted.parameters | {"CodeBucket": code_bucket, "CodeKey": package.code_key}
