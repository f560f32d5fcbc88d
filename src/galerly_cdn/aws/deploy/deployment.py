"""Deploys an installation as a stack: builds it, uploads it, creates a change set and executes it.

Each step is a method of its own, so that the command can show the result and ask before the next step.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from galerly_cdn.aws.deploy import buckets, build, change_set, recipes, template
from galerly_cdn.aws.deploy.buckets import CodeBucket
from galerly_cdn.aws.deploy.stack import ChangeSetRequest, Stack
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galerly_cdn.aws.deploy.change_set import ChangeSet
    from galerly_cdn.aws.deploy.stack import StackState
    from galerly_cdn.settings.table import Settings

MAX_BODY_BYTES = 51_200
"""CloudFormation's limit for a template in an API call; it fetches a larger one from a bucket."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,49}")
"""Shorter than CloudFormation's 128: it begins the names of functions, which have at most 64 characters."""


class DeploymentRequest(Value, frozen=True):
    """The options of the command. `parameters` are the template's; those left out keep their values."""

    stack: str
    parameters: dict[str, str]
    code_bucket: str = ""
    role: str = ""
    take_over: bool = False


class Package(Value, frozen=True):
    """The files to upload, with the keys that their hashes give them."""

    code_key: str
    code: str
    code_bytes: int
    template_key: str
    template: str
    template_bytes: int

    @property
    def is_template_uploaded(self) -> bool:
        """Whether the template is too large for an API call."""
        return self.template_bytes > MAX_BODY_BYTES

    def files(self) -> dict[str, Path]:
        """The files by their keys in the code bucket."""
        templates = {self.template_key: Path(self.template)} if self.is_template_uploaded else {}
        return {self.code_key: Path(self.code)} | templates


def check_request(request: DeploymentRequest) -> DeploymentRequest:
    """Return the request. Raises `SettingsError` for a stack name that resource names cannot begin with."""
    if not _NAME.fullmatch(request.stack):
        raise SettingsError([f"--stack: {request.stack!r} is no name: letters, digits and `-`, at most 50"])
    return request


def without_avif(settings: Settings) -> Settings:
    """The same sizes without AVIF, the slowest format to encode, to save Lambda's time."""
    lines = (line.split() for line in settings.sizes)
    sizes = tuple(" ".join(word for word in line if not word.startswith("avif=")) for line in lines)
    return replaced(settings, sizes=sizes)


def package(settings: Settings, out: Path, *, with_lambda_edge: bool) -> Package:
    """Build into `out`. Raises as `build.build`."""
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
    """One deployment of a package to the account. Making it reads the account's state.

    Methods raise `AwsRefused`.
    """

    def __init__(self, request: DeploymentRequest, package: Package, stack: Stack) -> None:
        self._request = request
        self._package = package
        self._stack = stack
        self._account = buckets.account_id()
        self.state = stack.state()
        current = self._current_parameters()
        name = request.code_bucket or (current or {}).get("CodeBucket") or f"galerly-cdn-code-{self._account}"
        self.bucket = CodeBucket(name, self._account)
        self.parameters = parameters(request, package, current, name, self._account)
        self._bucket_exists = self.bucket.exists()
        has_object = self.bucket.has_object if self._bucket_exists else (lambda _key: False)
        self.uploads = {key: file for key, file in package.files().items() if not has_object(key)}

    @property
    def is_new(self) -> bool:
        """Whether there is no stack, or one whose creation was not executed or was rolled back."""
        return self.state is None or self.state.is_new or self.state.is_rolled_back

    def _current_parameters(self) -> Mapping[str, str] | None:
        return None if self.is_new or self.state is None else self.state.parameters

    def check(self) -> None:
        """Raise `DeploymentFailed` if another operation is in progress, or if a bucket to make exists."""
        if self.state is not None and self.state.status.endswith("_IN_PROGRESS") and not self.state.is_new:
            raise DeploymentFailed(
                f"{self.state.status}: another operation is in progress; wait until it has ended"
            )
        if not self.is_new or self._request.take_over:
            return
        name = self.parameters["BucketName"] or ""
        for bucket in (name, f"{name}-logs"):
            if CodeBucket(bucket, self._account).exists():
                raise DeploymentFailed(
                    f"the bucket {bucket} exists already. --take-over makes it part of the stack: "
                    "its objects are kept, its policy and lifecycle are replaced by the template's"
                )

    def upload(self) -> None:
        """Upload the files that the code bucket does not have; create the bucket if it does not exist."""
        if not self._bucket_exists:
            self.bucket.create()
        for key, file in self.uploads.items():
            self.bucket.put(key, file)

    def create_change_set(self) -> ChangeSet | None:
        """Create a change set for uploaded files; None if nothing would change. Raises `DeploymentFailed`."""
        if self.state is not None and self.state.is_rolled_back:
            self._stack.delete(self.state.arn)
        package = self._package
        request = ChangeSetRequest(
            template=Path(package.template).read_text("utf-8"),
            template_url=self.bucket.url(package.template_key) if package.is_template_uploaded else "",
            parameters=self.parameters,
            role=self._request.role,
            take_over=self._request.take_over,
        )
        return self._stack.create_change_set(request, f"galerly-{uuid.uuid4().hex[:12]}", is_new=self.is_new)

    def newly_public(self, settings: Settings) -> tuple[str, ...]:
        """The private prefixes of the deployed stack that this deployment makes public."""
        before = () if self.is_new else self._stack.private_prefixes()
        return change_set.newly_public(before, settings.private_prefixes)

    def outdated(self, settings: Settings) -> tuple[str, ...]:
        """The targets whose stored renditions this deployment makes outdated."""
        return () if self.is_new else recipes.outdated(self._stack.metadata(), settings)

    def delete_change_set(self, created: ChangeSet) -> None:
        self._stack.delete_change_set(created.arn, is_new=self.is_new)

    def execute(self, created: ChangeSet) -> StackState:
        """Execute a change set and wait for its end. Raises `DeploymentFailed`."""
        return self._stack.execute(created)


def parameters(
    request: DeploymentRequest,
    package: Package,
    current: Mapping[str, str] | None,
    code_bucket: str,
    account: str,
) -> dict[str, str | None]:
    """Values of the template's parameters; None keeps the stack's value.

    A parameter that neither the request nor the stack has is left out, and gets the template's default.
    `current` are the stack's parameters, None for a new stack. Raises `SettingsError` for parameters that
    the template does not have.
    """
    names = template.parameters(Path(package.template).read_text("utf-8"))
    unknown = sorted(set(request.parameters) - set(names))
    if unknown:
        raise SettingsError([f"--set: the template has no parameter {name}" for name in unknown])
    values: dict[str, str | None] = {name: None for name in names if name in (current or {})}
    if current is None:
        values["BucketName"] = f"{request.stack.lower()}-{account}"
    return values | request.parameters | {"CodeBucket": code_bucket, "CodeKey": package.code_key}
