"""What is deployed under a name, and how does it become something else? One CloudFormation stack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.deploy import boto, change_set
from galerly_cdn.errors import DeploymentFailed
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from galerly_cdn.aws.deploy.change_set import ChangeSet

_POLL_S = 3.0
_LOOKS = 200
"""At a change set, until it is made; CloudFormation takes seconds."""
_DONE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
_HAS = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "IMPORT_COMPLETE", "DELETE_FAILED"}
_NEW = {"REVIEW_IN_PROGRESS"}
"""A first change set was made and never executed: there is a name and nothing else."""
_ADVICE = {
    "ROLLBACK_COMPLETE": "Nothing of it is left running. Mend the cause and deploy again.",
    "UPDATE_ROLLBACK_COMPLETE": "It runs as before. Mend the cause and deploy again.",
    "ROLLBACK_FAILED": "Delete it (`galerly-cdn aws destroy`) and deploy again.",
    "CREATE_FAILED": "Delete it (`galerly-cdn aws destroy`) and deploy again.",
    "DELETE_FAILED": "Delete it again (`galerly-cdn aws destroy`).",
    "UPDATE_ROLLBACK_FAILED": "Mend the cause, then `aws cloudformation continue-update-rollback`.",
}


class StackState(Value, frozen=True):
    """A stack as it is: its ARN, CloudFormation's status, what it was given and what it tells."""

    arn: str
    status: str
    parameters: dict[str, str]
    outputs: dict[str, str]

    @property
    def is_new(self) -> bool:
        return self.status in _NEW

    @property
    def is_leftover(self) -> bool:
        """A creation that was rolled back: it can only be deleted."""
        return self.status == "ROLLBACK_COMPLETE"


class StackEvent(Value, frozen=True):
    """What happened to one resource; the stack itself is one."""

    time: str
    status: str
    type: str
    resource: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f"  {self.reason}" if self.reason else ""
        return f"{self.time}  {self.status:<28}  {self.type:<42}  {self.resource}{reason}"


class ChangeSetRequest(Value, frozen=True):
    """What a stack is to become. The template is its text, or its address in a bucket."""

    template: str
    template_url: str
    parameters: dict[str, str | None]
    """None: as it was."""
    role: str = ""
    takes_over: bool = False

    def spelt(self) -> dict[str, Any]:
        """As CreateChangeSet takes it."""
        spelt: dict[str, Any] = {
            "Parameters": [
                {"ParameterKey": name, "UsePreviousValue": True}
                if value is None
                else {"ParameterKey": name, "ParameterValue": value}
                for name, value in self.parameters.items()
            ],
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        }
        spelt |= {"TemplateURL": self.template_url} if self.template_url else {"TemplateBody": self.template}
        spelt |= {"RoleARN": self.role} if self.role else {}
        return spelt | ({"ImportExistingResources": True} if self.takes_over else {})


class Stack:
    """One stack, by its name or ARN. `tell` is given every event; methods raise `AwsRefused`."""

    def __init__(
        self, name: str, tell: Callable[[StackEvent], object], pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._name = name
        self._tell = tell
        self._pause = pause
        self._aws = boto.client("cloudformation")

    def state(self) -> StackState | None:
        """None if there is none."""
        with boto.aws_errors():
            try:
                (told,) = self._aws.describe_stacks(StackName=self._name)["Stacks"]
            except self._aws.exceptions.ClientError as error:
                if error.response["Error"]["Message"].endswith("does not exist"):
                    return None
                raise
        return StackState(
            told["StackId"],
            told["StackStatus"],
            {one["ParameterKey"]: one.get("ParameterValue", "") for one in told.get("Parameters", [])},
            {one["OutputKey"]: one["OutputValue"] for one in told.get("Outputs", [])},
        )

    def private_prefixes(self) -> tuple[str, ...]:
        """Those of the template that is deployed."""
        with boto.aws_errors():
            summary = self._aws.get_template_summary(StackName=self._name)
        return change_set.private_prefixes(summary.get("Metadata", ""))

    def buckets(self) -> tuple[str, ...]:
        """Those that it made or took over: the store, its access logs. Not one that it only was to have."""
        with boto.aws_errors():
            told = self._aws.describe_stack_resources(StackName=self._name)["StackResources"]
        return tuple(
            one["PhysicalResourceId"]
            for one in told
            if one["ResourceType"] == "AWS::S3::Bucket" and one["ResourceStatus"] in _HAS
        )

    def propose(self, request: ChangeSetRequest, name: str, *, is_new: bool) -> ChangeSet | None:
        """Make a change set; None where nothing would change. Raises `DeploymentFailed`, too."""
        with boto.aws_errors():
            made = self._aws.create_change_set(
                StackName=self._name,
                ChangeSetName=name,
                ChangeSetType="CREATE" if is_new else "UPDATE",
                **request.spelt(),
            )
        proposed = self.proposed(made["Id"])
        if proposed is None:
            self.withdraw(made["Id"], is_new=is_new)
        return proposed

    def proposed(self, arn: str) -> ChangeSet | None:
        """A change set as soon as it is made; None where nothing would change. Raises `DeploymentFailed`."""
        for _ in range(_LOOKS):
            with boto.aws_errors():
                told = self._aws.describe_change_set(ChangeSetName=arn)
            if told["Status"] == "FAILED":
                reason = told.get("StatusReason", "")
                if "didn't contain changes" in reason or "No updates are to be performed" in reason:
                    return None
                raise DeploymentFailed(f"CloudFormation could make no change set: {reason}")
            if told["Status"] == "CREATE_COMPLETE":
                listed = [*told["Changes"], *self._more_changes(arn, told.get("NextToken"))]
                read = tuple(change_set.read_change(one["ResourceChange"]) for one in listed)
                return change_set.ChangeSet(told["ChangeSetId"], told["StackId"], read)
            self._pause(_POLL_S)
        raise DeploymentFailed(f"CloudFormation does not finish its change set {arn}")

    def _more_changes(self, arn: str, token: str | None) -> Iterator[Mapping[str, Any]]:
        while token:
            with boto.aws_errors():
                told = self._aws.describe_change_set(ChangeSetName=arn, NextToken=token)
            yield from told["Changes"]
            token = told.get("NextToken")

    def withdraw(self, arn: str, *, is_new: bool) -> None:
        """Delete a change set; of a stack that was only a name, the name too."""
        with boto.aws_errors():
            self._aws.delete_change_set(ChangeSetName=arn)
            if is_new:
                self._aws.delete_stack(StackName=self._name)

    def execute(self, proposed: ChangeSet) -> StackState:
        """Do what a change set says, and wait for it. Raises `DeploymentFailed` with the first cause."""
        last = self._last_event(proposed.stack_arn)
        with boto.aws_errors():
            self._aws.execute_change_set(ChangeSetName=proposed.arn)
        return self._followed(proposed.stack_arn, last, _DONE)

    def delete(self, arn: str) -> None:
        """Delete the stack, and wait for it. Raises `DeploymentFailed` with the first cause."""
        last = self._last_event(arn)
        with boto.aws_errors():
            self._aws.delete_stack(StackName=arn)
        self._followed(arn, last, {"DELETE_COMPLETE"})

    def _followed(self, arn: str, last: str, done: set[str]) -> StackState:
        """Tell events until the stack rests; by its ARN, which a deleted one has, too."""
        cause: StackEvent | None = None
        followed = Stack(arn, self._tell, self._pause)
        while True:
            state = followed.state()
            for event_id, event in reversed(list(self._events(arn, last))):
                last = event_id
                self._tell(event)
                if cause is None and event.status.endswith("_FAILED") and "cancelled" not in event.reason:
                    cause = event
            if state is None:
                raise DeploymentFailed(f"{arn} is gone")
            if not state.status.endswith("_IN_PROGRESS"):
                break
            self._pause(_POLL_S)
        if state.status not in done:
            why = f"{cause.resource} ({cause.type}): {cause.reason}" if cause else "no resource says why"
            raise DeploymentFailed(f"{state.status}: {why} {_ADVICE.get(state.status, '')}".rstrip())
        return state

    def _events(self, arn: str, last: str) -> Iterator[tuple[str, StackEvent]]:
        """Those after `last`, newest first, with their IDs."""
        pages = self._aws.get_paginator("describe_stack_events").paginate(StackName=arn)
        with boto.aws_errors():
            for page in pages:
                for told in page["StackEvents"]:
                    if told["EventId"] == last:
                        return
                    yield told["EventId"], _event(told)

    def _last_event(self, arn: str) -> str:
        return next((event_id for event_id, _ in self._events(arn, "")), "")


def _event(told: Mapping[str, Any]) -> StackEvent:
    return StackEvent(
        f"{told['Timestamp']:%H:%M:%S}",
        told["ResourceStatus"],
        told["ResourceType"],
        told["LogicalResourceId"],
        told.get("ResourceStatusReason", ""),
    )
