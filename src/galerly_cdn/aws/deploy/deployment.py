"""Deploys an installation as a stack: builds it, uploads it, creates a change set and executes it.

Each step is a method of its own, so that the command can show the result and ask before the next step.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import (
    buckets,
    build,
    change_set,
    concurrency,
    recipes,
    template,
    verify_account,
)
from galerly_cdn.aws.deploy.buckets import CodeBucket
from galerly_cdn.aws.deploy.stack import ChangeSetRequest, Stack
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import Value, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from galerly_cdn.aws.deploy.change_set import ChangeSet
    from galerly_cdn.aws.deploy.smoke_test import Check
    from galerly_cdn.aws.deploy.stack import StackState
    from galerly_cdn.settings.table import Settings

MAX_STACK_NAME = 45
"""Characters of a stack's name, below CloudFormation's 128, because it begins the names of other resources.

S3 allows 63 for the bucket `{stack}-{account}-logs`, and Lambda 64 for `{stack}-PrivateViewerEdge`.
"""
MAX_BUCKET_NAME = 58
"""Characters of the bucket's name, so that `{bucket}-logs` has at most 63."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


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

    def files(self) -> dict[str, Path]:
        """The files by their keys in the code bucket."""
        return {self.code_key: Path(self.code), self.template_key: Path(self.template)}

    def importing(self, bucket: str) -> Package:
        """The same package with the template that an import of the buckets needs."""
        text = template.with_literal_names(Path(self.template).read_text("utf-8"), bucket)
        file = Path(self.template).with_name("import.yaml")
        file.write_text(text, "utf-8")
        return replaced(self, **_template_fields(file))


def check_request(request: DeploymentRequest) -> DeploymentRequest:
    """Return the request. Raises `SettingsError` for names that make other resources' names too long."""
    name = request.stack
    if not _NAME.fullmatch(name):
        raise SettingsError([f"--stack: {name!r} is no name: letters, digits and `-`, a letter first"])
    if len(name) > MAX_STACK_NAME:
        reason = f"the bucket for access logs, {name}-ACCOUNT-logs, could not be created: S3 allows 63"
        raise SettingsError(
            [f"--stack: {name!r} has {len(name)} characters, not up to {MAX_STACK_NAME}: {reason}"]
        )
    bucket = request.parameters.get("BucketName", "")
    if len(bucket) > MAX_BUCKET_NAME:
        reason = f"the bucket for access logs is {bucket}-logs, and S3 allows 63"
        raise SettingsError([f"--bucket: {len(bucket)} characters, not up to {MAX_BUCKET_NAME}: {reason}"])
    return request


def without_avif(settings: Settings) -> Settings:
    """The same sizes without AVIF, the slowest format to encode, to save Lambda's time."""
    lines = (line.split() for line in settings.sizes)
    sizes = tuple(" ".join(word for word in line if not word.startswith("avif=")) for line in lines)
    return replaced(settings, sizes=sizes)


def package(
    settings: Settings, out: Path, *, with_lambda_edge: bool, progress: Callable[[str], object]
) -> Package:
    """Build into `out`; `progress` gets each step as it begins. Raises as `build.build`."""
    built = build.build(settings, out, with_lambda_edge=with_lambda_edge, progress=progress)
    return Package(
        code_key=f"code/{built.sha256}.zip",
        code=built.zip,
        code_bytes=built.zip_bytes,
        **_template_fields(Path(built.template)),
    )


def _template_fields(file: Path) -> dict[str, Any]:
    """The fields of `Package` that describe a template."""
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {
        "template_key": f"template/{digest}.yaml",
        "template": str(file),
        "template_bytes": len(content),
    }


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
        self._importing = package.importing(self.parameters["BucketName"] or "") if self.imports else None
        self._bucket_exists = self.bucket.exists()
        has_object = self.bucket.has_object if self._bucket_exists else (lambda _key: False)
        files = package.files() | (self._importing.files() if self._importing else {})
        self.uploads = {key: file for key, file in files.items() if not has_object(key)}
        self.concurrency = concurrency.read()

    @property
    def is_new(self) -> bool:
        """Whether there is no stack, or one whose creation was not executed or was rolled back."""
        return self.state is None or self.state.is_new or self.state.is_rolled_back

    @property
    def imports(self) -> bool:
        """Whether the change set imports the buckets; those of an existing stack are its own already."""
        return self.is_new and self._request.take_over

    def _current_parameters(self) -> Mapping[str, str] | None:
        return None if self.is_new or self.state is None else self.state.parameters

    def check(self) -> None:
        """Raise `DeploymentFailed` for what CloudFormation would find out later.

        Another operation is in progress, a bucket to make exists, or the account refuses the reservation.
        """
        if self.state is not None and self.state.status.endswith("_IN_PROGRESS") and not self.state.is_new:
            raise DeploymentFailed(
                f"{self.state.status}: another operation is in progress; wait until it has ended"
            )
        if self.concurrency is not None:
            self.concurrency.check(*self.reservations())
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
            self._stack.delete(self.state)
        request = ChangeSetRequest(
            template_url=self.bucket.url((self._importing or self._package).template_key),
            parameters=self.parameters,
            role=self._request.role,
            imports=self.imports,
            reverts_drift=self._request.take_over and not self.is_new,
        )
        return self._stack.create_change_set(request, _change_set_name(), is_new=self.is_new)

    def create_settings_change_set(self) -> ChangeSet | None:
        """Create a change set that gives imported buckets the template's settings; None if they have them.

        An import is not documented to change what it imports. Raises `DeploymentFailed`.
        """
        request = ChangeSetRequest(
            template_url=self.bucket.url(self._package.template_key),
            parameters=dict.fromkeys(self.parameters),
            role=self._request.role,
            reverts_drift=True,
        )
        return self._stack.create_change_set(request, _change_set_name(), is_new=False)

    def check_settings(self) -> Iterator[Check]:
        """Compare buckets that were taken over with the template. Raises `DeploymentFailed`."""
        if self._request.take_over:
            yield from verify_account.check_settings(self._stack)

    def reservations(self) -> tuple[int, int]:
        """The reserved concurrency of the deployed stack, and of this deployment."""
        name = "ReservedConcurrency"
        before = int((self._current_parameters() or {}).get(name, 0))
        after = self.parameters.get(name, "0")
        return before, before if after is None else int(after)

    def newly_public(self, settings: Settings) -> tuple[str, ...]:
        """The private prefixes of the deployed stack that this deployment makes public."""
        before = () if self.is_new else self._stack.private_prefixes()
        return change_set.newly_public(before, settings.private_prefixes)

    def outdated(self, settings: Settings) -> tuple[str, ...]:
        """The targets whose stored renditions this deployment makes outdated."""
        return () if self.is_new else recipes.outdated(self._stack.metadata(), settings)

    def delete_change_set(self, created: ChangeSet) -> None:
        self._stack.delete_change_set(created.arn, created.stack_arn)

    def execute(self, created: ChangeSet) -> StackState:
        """Execute a change set and wait for its end. Raises `DeploymentFailed`."""
        return self._stack.execute(created)


def _change_set_name() -> str:
    return f"galerly-{uuid.uuid4().hex[:12]}"


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
