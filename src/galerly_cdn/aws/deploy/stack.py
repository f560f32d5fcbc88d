"""Reads, changes and deletes one CloudFormation stack, and reports its events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import boto, change_set
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from galerly_cdn.aws.deploy.change_set import ChangeSet

_POLL_S = 3.0
_MAX_POLLS = 200
"""Polls for a change set to be created, which takes CloudFormation seconds."""
_DONE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
_EXISTING = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "IMPORT_COMPLETE", "DELETE_FAILED"}
"""The statuses of a resource that exists."""
_NEW = {"REVIEW_IN_PROGRESS"}
"""The status of a stack whose first change set was never executed: it has a name and no resources."""
_ADVICE = {
    "ROLLBACK_COMPLETE": "No resource is left running. Correct the cause and deploy again.",
    "UPDATE_ROLLBACK_COMPLETE": "The stack runs as before. Correct the cause and deploy again.",
    "ROLLBACK_FAILED": "Delete it (`galerly-cdn aws destroy`) and deploy again.",
    "CREATE_FAILED": "Delete it (`galerly-cdn aws destroy`) and deploy again.",
    "DELETE_FAILED": "Delete it again (`galerly-cdn aws destroy`).",
    "UPDATE_ROLLBACK_FAILED": "Correct the cause, then run `aws cloudformation continue-update-rollback`.",
}


class StackState(Value, frozen=True):
    """A stack's ARN, status, parameters and outputs. A protected stack cannot be deleted."""

    arn: str
    status: str
    parameters: dict[str, str]
    outputs: dict[str, str]
    is_protected: bool = False

    @property
    def is_new(self) -> bool:
        return self.status in _NEW

    @property
    def is_rolled_back(self) -> bool:
        """Whether its creation failed and was rolled back: it can only be deleted."""
        return self.status == "ROLLBACK_COMPLETE"


class StackEvent(Value, frozen=True):
    """An event of one resource, or of the stack itself."""

    time: str
    status: str
    type: str
    resource: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f"  {self.reason}" if self.reason else ""
        return f"{self.time}  {self.status:<28}  {self.type:<42}  {self.resource}{reason}"


class ChangeSetRequest(Value, frozen=True):
    """A change set to create, for a template in a bucket.

    `imports` takes over resources that exist under the names in the template. `reverts_drift` compares the
    resources with the template as they are, not as the stack last left them.
    """

    template_url: str
    parameters: dict[str, str | None]
    """None keeps the stack's value."""
    role: str = ""
    imports: bool = False
    reverts_drift: bool = False

    def to_api(self) -> dict[str, Any]:
        """The parameters of CreateChangeSet."""
        request: dict[str, Any] = {
            "Parameters": [
                {"ParameterKey": name, "UsePreviousValue": True}
                if value is None
                else {"ParameterKey": name, "ParameterValue": value}
                for name, value in self.parameters.items()
            ],
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            "TemplateURL": self.template_url,
        }
        request |= {"RoleARN": self.role} if self.role else {}
        request |= {"ImportExistingResources": True} if self.imports else {}
        return request | ({"DeploymentMode": "REVERT_DRIFT"} if self.reverts_drift else {})


class Stack:
    """One stack, by its name or ARN. `on_event` is called with every event.

    Methods raise `AwsRefused`.
    """

    def __init__(
        self,
        name: str,
        on_event: Callable[[StackEvent], object],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._name = name
        self._on_event = on_event
        self._pause = pause
        self._aws = boto.client("cloudformation")
        self._metadata: str | None = None

    def state(self) -> StackState | None:
        """The stack's state; None if there is no such stack."""
        with boto.aws_errors():
            try:
                (stack,) = self._aws.describe_stacks(StackName=self._name)["Stacks"]
            except self._aws.exceptions.ClientError as error:
                if error.response["Error"]["Message"].endswith("does not exist"):
                    return None
                raise
        return StackState(
            stack["StackId"],
            stack["StackStatus"],
            {one["ParameterKey"]: one.get("ParameterValue", "") for one in stack.get("Parameters", [])},
            {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])},
            is_protected=stack.get("EnableTerminationProtection", False),
        )

    def private_prefixes(self) -> tuple[str, ...]:
        """The private prefixes of the deployed template."""
        return change_set.private_prefixes(self.metadata())

    def metadata(self) -> str:
        """The deployed template's `Metadata` as JSON, or an empty text. It is read once."""
        if self._metadata is None:
            with boto.aws_errors():
                summary = self._aws.get_template_summary(StackName=self._name)
            self._metadata = str(summary.get("Metadata", ""))
        return self._metadata

    def resources(self) -> dict[str, str]:
        """The physical IDs of the resources that exist, by logical ID."""
        with boto.aws_errors():
            resources = self._aws.describe_stack_resources(StackName=self._name)["StackResources"]
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in resources
            if one["ResourceStatus"] in _EXISTING
        }

    def buckets(self) -> tuple[str, ...]:
        """The buckets that the stack made or took over: the store and its access logs.

        A bucket that the stack failed to create belongs to somebody else, and is left out.
        """
        with boto.aws_errors():
            resources = self._aws.describe_stack_resources(StackName=self._name)["StackResources"]
        return tuple(
            resource["PhysicalResourceId"]
            for resource in resources
            if resource["ResourceType"] == "AWS::S3::Bucket" and resource["ResourceStatus"] in _EXISTING
        )

    def create_change_set(self, request: ChangeSetRequest, name: str, *, is_new: bool) -> ChangeSet | None:
        """Create a change set; None if nothing would change. Raises `DeploymentFailed`."""
        with boto.aws_errors():
            response = self._aws.create_change_set(
                StackName=self._name,
                ChangeSetName=name,
                ChangeSetType="CREATE" if is_new else "UPDATE",
                **request.to_api(),
            )
        created = self.change_set(response["Id"])
        if created is None:
            self.delete_change_set(response["Id"], response["StackId"])
        return created

    def change_set(self, arn: str) -> ChangeSet | None:
        """Wait until a change set is created; None if nothing would change. Raises `DeploymentFailed`."""
        for _ in range(_MAX_POLLS):
            with boto.aws_errors():
                response = self._aws.describe_change_set(ChangeSetName=arn)
            if response["Status"] == "FAILED":
                reason = response.get("StatusReason", "")
                if "didn't contain changes" in reason or "No updates are to be performed" in reason:
                    return None
                reason = self._explained(reason, ChangeSetName=arn)
                raise DeploymentFailed(f"CloudFormation could create no change set: {reason}")
            if response["Status"] == "CREATE_COMPLETE":
                changes = [*response["Changes"], *self._more_changes(arn, response.get("NextToken"))]
                read = tuple(change_set.read_change(change["ResourceChange"]) for change in changes)
                return change_set.ChangeSet(response["ChangeSetId"], response["StackId"], read)
            self._pause(_POLL_S)
        raise DeploymentFailed(f"CloudFormation did not finish the change set {arn} in time")

    def _more_changes(self, arn: str, token: str | None) -> Iterator[Mapping[str, Any]]:
        while token:
            with boto.aws_errors():
                response = self._aws.describe_change_set(ChangeSetName=arn, NextToken=token)
            yield from response["Changes"]
            token = response.get("NextToken")

    def delete_change_set(self, arn: str, stack_arn: str) -> None:
        """Delete a change set, and its stack if nothing was made of it and nobody else proposes a change.

        The stack is read again: since the change set was created, somebody may have executed another one.
        """
        with boto.aws_errors():
            self._aws.delete_change_set(ChangeSetName=arn)
            state = self._by_arn(stack_arn).state()
            if state is None or not state.is_new or state.is_protected:
                return
            listed = self._aws.list_change_sets(StackName=stack_arn)["Summaries"]
            if all(one["ChangeSetId"] == arn for one in listed):
                self._aws.delete_stack(StackName=stack_arn)

    def execute(self, created: ChangeSet) -> StackState:
        """Execute a change set and wait for its end. Raises `DeploymentFailed` with the first cause.

        A new stack is protected against deletion, until its creation is rolled back.
        """
        arn = created.stack_arn
        stack = self._by_arn(arn)
        before = stack.state()
        is_new = before is not None and before.is_new
        if is_new:
            self._protect(arn, is_protected=True)
        last = self._last_event(arn)
        with boto.aws_errors():
            self._aws.execute_change_set(ChangeSetName=created.arn)
        try:
            return self._wait(arn, last, _DONE)
        except DeploymentFailed:
            after = stack.state() if is_new else None
            if after is not None and after.is_rolled_back:
                self._protect(arn, is_protected=False)
            raise

    def delete(self, state: StackState) -> None:
        """Delete the stack, protected or not, and wait. Raises `DeploymentFailed` with the first cause."""
        if state.is_protected:
            self._protect(state.arn, is_protected=False)
        last = self._last_event(state.arn)
        with boto.aws_errors():
            self._aws.delete_stack(StackName=state.arn)
        self._wait(state.arn, last, {"DELETE_COMPLETE"})

    def differences(self, resource: str) -> tuple[str, ...]:
        """The paths of properties in which a resource differs from the template: its drift.

        Raises `DeploymentFailed` for a type that CloudFormation cannot compare.
        """
        with boto.aws_errors():
            drift = self._aws.detect_stack_resource_drift(StackName=self._name, LogicalResourceId=resource)
        found = drift["StackResourceDrift"]
        if found["StackResourceDriftStatus"] not in {"IN_SYNC", "MODIFIED"}:
            raise DeploymentFailed(f"{resource} cannot be compared: {found['StackResourceDriftStatus']}")
        return tuple(one["PropertyPath"] for one in found.get("PropertyDifferences", []))

    def _by_arn(self, arn: str) -> Stack:
        """The same stack, which keeps its ARN when it is deleted and made again under its name."""
        return Stack(arn, self._on_event, self._pause)

    def _protect(self, arn: str, *, is_protected: bool) -> None:
        with boto.aws_errors():
            self._aws.update_termination_protection(StackName=arn, EnableTerminationProtection=is_protected)

    def _wait(self, arn: str, last: str, done: set[str]) -> StackState:
        """Report events after `last` until no operation is in progress.

        It reads the stack by its ARN, which a deleted stack keeps.
        """
        cause: StackEvent | None = None
        stack = self._by_arn(arn)
        while True:
            state = stack.state()
            for event_id, event in reversed(list(self._events(arn, last))):
                last = event_id
                self._on_event(event)
                if cause is None and event.status.endswith("_FAILED") and "cancelled" not in event.reason:
                    cause = event
            if state is None:
                raise DeploymentFailed(f"the stack {arn} does not exist any more")
            if not state.status.endswith("_IN_PROGRESS"):
                break
            self._pause(_POLL_S)
        if state.status not in done:
            reason = (
                f"{cause.resource} ({cause.type}): {self._explained(cause.reason, StackName=arn)}"
                if cause
                else "no resource gave a reason"
            )
            raise DeploymentFailed(f"{state.status}: {reason} {_ADVICE.get(state.status, '')}".rstrip())
        return state

    def _explained(self, reason: str, **operation: str) -> str:
        """A reason that only counts validation errors, with the errors that CloudFormation found."""
        if "DescribeEvents" not in reason:
            return reason
        with boto.aws_errors():
            events = self._aws.describe_events(**operation)["OperationEvents"]
        found = [
            f"{event.get('LogicalResourceId')}: {event['ValidationStatusReason']}"
            for event in events
            if event.get("ValidationStatusReason")
        ]
        return "; ".join(found) or reason

    def _events(self, arn: str, last: str) -> Iterator[tuple[str, StackEvent]]:
        """The IDs and events after the event `last`, newest first."""
        pages = self._aws.get_paginator("describe_stack_events").paginate(StackName=arn)
        with boto.aws_errors():
            for page in pages:
                for event in page["StackEvents"]:
                    if event["EventId"] == last:
                        return
                    yield event["EventId"], _read_event(event)

    def _last_event(self, arn: str) -> str:
        return next((event_id for event_id, _ in self._events(arn, "")), "")


def _read_event(event: Mapping[str, Any]) -> StackEvent:
    return StackEvent(
        f"{event['Timestamp']:%H:%M:%S}",
        event["ResourceStatus"],
        event["ResourceType"],
        event["LogicalResourceId"],
        event.get("ResourceStatusReason", ""),
    )
