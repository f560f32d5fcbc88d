"""Tests of `aws deploy` and `aws execute`, over expected AWS calls."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.access import keys
from galerly_cdn.aws.deploy import (
    build,
    change_set,
    deployment,
    lambda_packages,
    recipes,
    smoke_test,
    stack,
    template,
)
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.aws_local.cloudformation import limits
from galerly_cdn.aws_local.cloudformation import yaml_template as cloudformation
from galerly_cdn.errors import SettingsError
from galerly_cdn.settings.table import Settings
from tests.support.cloudformation_stubs import (
    ACCOUNT,
    ARN,
    BUCKET,
    CHANGE_SET,
    CHANGES,
    CODE_BUCKET,
    OUTPUTS,
    OWNED,
    described_stack,
    drift,
    event,
    expect_change_set,
    expect_code,
    expect_declined,
    expect_described_change_set,
    expect_missing_bucket,
    expect_no_buckets,
    expect_operation,
    expect_protection,
    expect_smoke_test,
    expect_stack,
)
from tests.support.fake_aws import ANY, FakeAws, aws

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["aws"]

TEMPLATE = f"template/{hashlib.sha256(template.render(Settings()).encode()).hexdigest()}.yaml"
"""The key of the template with default settings."""


@pytest.fixture(autouse=True)
def _without_environment_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The key of the code, built from one small wheel instead of those that pip would fetch."""
    wheel = tmp_path / "one-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("one.py", "1")
    monkeypatch.setattr(lambda_packages, "fetch", lambda *_: (wheel,))
    monkeypatch.setattr(stack, "_POLL_S", 0.001)
    monkeypatch.setattr(smoke_test, "_PAUSE_S", 0.001)
    return f"code/{build.build(Settings(), tmp_path / 'out').sha256}.zip"


def run(*arguments: str, answer: str | None = None, **env: str) -> Result:
    return CliRunner().invoke(cli.main, ["aws", *arguments], input=answer, env=env)


# deploy


def test_deploy_new_stack_uploads_confirms_executes_and_tests(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    expect_stack(aws)
    expect_missing_bucket(aws, CODE_BUCKET)
    expect_no_buckets(aws)
    aws.expect("s3", "create_bucket", {"Bucket": CODE_BUCKET, "ObjectOwnership": "BucketOwnerEnforced"})
    blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    blocked = {"PublicAccessBlockConfiguration": dict.fromkeys(blocks, True)}
    aws.expect("s3", "put_public_access_block", OWNED | blocked)
    aws.expect("s3", "put_bucket_policy", OWNED | {"Policy": ANY})
    aws.expect("s3", "put_object", OWNED | {"Key": code, "Body": ANY})
    aws.expect("s3", "put_object", OWNED | {"Key": TEMPLATE, "Body": ANY})
    url = f"https://{CODE_BUCKET}.s3.us-east-1.amazonaws.com/{TEMPLATE}"
    given = {
        "BucketName": BUCKET,
        "CodeBucket": CODE_BUCKET,
        "CodeKey": code,
        "Prewarm": "on",
        "Memory": "2048",
        "BudgetDollars": "50",
        "AlarmEmail": "a@example.com",
        "Firewall": "rate",
    }
    expect_change_set(aws, "CREATE", Parameters=ParameterValues(given), TemplateURL=url)
    making = [event(1, "Bucket", "CREATE_IN_PROGRESS")]
    finished = [*making, event(2, "Bucket", "CREATE_COMPLETE")]
    steps = ("CREATE_IN_PROGRESS", making), ("CREATE_COMPLETE", finished)
    expect_operation(aws, "execute_change_set", *steps, before="REVIEW_IN_PROGRESS")
    expect_smoke_test(aws, monkeypatch)
    caps = ("--budget", "50", "--alarm-email", "a@example.com", "--waf", "rate")
    options = ("--prewarm", "on", "--set", "Memory=2048", *caps)
    done = run("deploy", "--stack", "photos", *options, answer="y\n")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert f"upload    {code}, {TEMPLATE}" in lines
    assert done.stderr.splitlines()[0] == "packing resizer.zip"
    assert f"          BucketName = {BUCKET}" in lines
    assert [line.split()[:2] for line in lines if "AWS::SNS" in line] == [["added", "AWS::SNS::Topic"]]
    assert any(line.startswith("REPLACED ") and line.endswith("Viewer: Name") for line in lines)
    events = [line.split() for line in lines if line.startswith("12:30:45")]
    assert [event[1] for event in events] == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    assert "address   https://cdn.example.com" in lines
    assert "purging   GALERLY_DISTRIBUTION=E2EXAMPLE0000" in lines
    assert sum(line.startswith("ok ") for line in lines) == 2 * 9 + 5
    assert "Execute these changes?" in done.stderr


class ParameterValues:
    """Equal to the Parameters of CreateChangeSet with these values; None stands for UsePreviousValue."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        self._values = values

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, list)
        return {one["ParameterKey"]: one.get("ParameterValue") for one in other} == self._values

    def __hash__(self) -> int:
        return 0


def test_deploy_missing_options_keep_stack_parameters(aws: FakeAws, code: str) -> None:
    known = {
        "BucketName": "old",
        "CodeBucket": "mine",
        "CodeKey": "code/old.zip",
        "Memory": "2048",
        "Gone": "1",
    }
    expect_stack(aws, "UPDATE_COMPLETE", known)
    aws.expect("s3", "head_bucket", OWNED | {"Bucket": "mine"})
    aws.expect("s3", "head_object", OWNED | {"Bucket": "mine", "Key": code})
    aws.expect("s3", "head_object", OWNED | {"Bucket": "mine", "Key": TEMPLATE})
    given = {"BucketName": None, "CodeBucket": "mine", "CodeKey": code, "Memory": None, "Domain": ""}
    role = f"arn:aws:iam::{ACCOUNT}:role/cloudformation"
    reason = "The submitted information didn't contain changes. Submit different information."
    expect_change_set(aws, "UPDATE", [], reason, Parameters=ParameterValues(given), RoleARN=role)
    expect_declined(aws, "UPDATE_COMPLETE")
    done = run("deploy", "--stack", "photos", "--domain", "", "--role", role, "--yes")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        0,
        "No changes: the stack is as requested.",
    )


def test_deploy_dry_run_only_reads_the_account(aws: FakeAws, code: str) -> None:
    expect_stack(aws)
    expect_missing_bucket(aws, CODE_BUCKET)
    done = run("deploy", "--stack", "photos", "--dry-run")
    lines = done.stdout.splitlines()
    assert (done.exit_code, lines[-1]) == (0, "Nothing was uploaded, created or changed.")
    assert f"upload    {code}, {TEMPLATE}" in lines
    assert any(line.startswith("template  ") and line.endswith(TEMPLATE) for line in lines)


def test_deploy_dry_run_without_credentials_succeeds(aws: FakeAws) -> None:
    aws.expect_error("sts", "get_caller_identity", "ExpiredToken", "expired")
    done = run("deploy", "--stack", "photos", "--dry-run")
    assert (done.exit_code, done.stdout.splitlines()[-2:]) == (
        0,
        [
            "The state of the account cannot be read: GetCallerIdentity: ExpiredToken: expired",
            "Nothing was uploaded, created or changed.",
        ],
    )


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_deploy_without_boto3_fails(code: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code
    monkeypatch.setitem(sys.modules, "boto3", None)
    done = run("deploy", "--stack", "photos", option)
    assert done.exit_code == 1
    assert "pip install 'galerly-cdn[aws]'" in done.stderr


def test_deploy_without_credentials_fails(aws: FakeAws) -> None:
    aws.expect_error("sts", "get_caller_identity", "ExpiredToken", "expired")
    done = run("deploy", "--stack", "photos", "--yes")
    assert done.exit_code == 1
    error = "galerly-cdn: AWS refused the request. (GetCallerIdentity: ExpiredToken: expired)"
    assert done.stderr.splitlines()[1:] == [error]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_deploy_unconfirmed_deletes_change_set_and_new_stack(aws: FakeAws, answer: str) -> None:
    expect_stack(aws)
    expect_code(aws)
    expect_no_buckets(aws)
    expect_change_set(aws, "CREATE")
    expect_declined(aws, "REVIEW_IN_PROGRESS")
    aws.expect("cloudformation", "delete_stack", {"StackName": ARN})
    assert run("deploy", "--stack", "photos", answer=answer).exit_code == 1


@pytest.mark.parametrize(
    ("status", "others", "is_protected"),
    [
        ("CREATE_COMPLETE", (), True),
        ("CREATE_IN_PROGRESS", (), True),
        ("REVIEW_IN_PROGRESS", (f"{CHANGE_SET}-of-somebody-else",), False),
        ("REVIEW_IN_PROGRESS", (), True),
    ],
)
def test_deploy_unconfirmed_keeps_stack_that_somebody_else_changed(
    aws: FakeAws, status: str, others: tuple[str, ...], *, is_protected: bool
) -> None:
    """Another person proposed or executed a change of the new stack while this one waited for an answer."""
    expect_stack(aws)
    expect_code(aws)
    expect_no_buckets(aws)
    expect_change_set(aws, "CREATE")
    expect_declined(aws, status, *others, is_protected=is_protected)
    assert run("deploy", "--stack", "photos", answer="n\n").exit_code == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("ROLLBACK_COMPLETE", "No resource is left running. Correct the cause and deploy again."),
        ("ROLLBACK_FAILED", "Delete it (`galerly-cdn aws destroy`) and deploy again."),
    ],
)
def test_deploy_failure_reports_first_failed_resource(aws: FakeAws, status: str, advice: str) -> None:
    expect_stack(aws)
    expect_code(aws)
    expect_no_buckets(aws)
    expect_change_set(aws, "CREATE")
    events = [
        event(1, "Signers", "CREATE_FAILED", "Resource creation cancelled"),
        event(2, "Resizer", "CREATE_FAILED", "concurrency is below its minimum"),
        event(3, "photos", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Resizer]"),
        event(4, "Bucket", "DELETE_FAILED", "a consequence"),
    ]
    steps = ("ROLLBACK_IN_PROGRESS", events[:2]), (status, events)
    expect_operation(aws, "execute_change_set", *steps, before="REVIEW_IN_PROGRESS")
    aws.expect("cloudformation", "describe_stacks", {"StackName": ARN}, **described_stack(status))
    if status == "ROLLBACK_COMPLETE":
        expect_protection(aws, is_protected=False)
    done = run("deploy", "--stack", "photos", "--yes")
    assert done.exit_code == 1
    detail = f"{status}: Resizer (AWS::S3::Bucket): concurrency is below its minimum {advice}"
    assert done.stderr.splitlines()[1:] == [f"galerly-cdn: The deployment failed. ({detail})"]


COUNTED = "Validation failed with 1 error(s). Call DescribeEvents to retrieve the full list of issues."
VALIDATION = {
    "LogicalResourceId": "Bucket",
    "ValidationStatusReason": "Resource of type 'AWS::S3::Bucket' with identifier 'b' already exists.",
}


def test_deploy_validation_errors_are_shown_in_place_of_their_number(aws: FakeAws) -> None:
    """CloudFormation validates a change set and an operation, and its reason is only the number of errors."""
    for is_executed in (False, True):
        expect_stack(aws)
        expect_code(aws)
        expect_no_buckets(aws)
        expect_change_set(aws, "CREATE", reason="" if is_executed else COUNTED)
        if is_executed:
            failed = [event(1, "photos", "CREATE_FAILED", COUNTED)]
            steps = ("ROLLBACK_FAILED", failed)
            expect_operation(aws, "execute_change_set", steps, before="REVIEW_IN_PROGRESS")
        operation = {"StackName": ARN} if is_executed else {"ChangeSetName": CHANGE_SET}
        aws.expect("cloudformation", "describe_events", operation, OperationEvents=[{}, VALIDATION])
        if is_executed:
            described = described_stack("ROLLBACK_FAILED")
            aws.expect("cloudformation", "describe_stacks", {"StackName": ARN}, **described)
        done = run("deploy", "--stack", "photos", "--yes")
        assert "Bucket: Resource of type 'AWS::S3::Bucket' with identifier 'b' already exists." in done.stderr
        assert "Call DescribeEvents" not in done.stderr
        aws.assert_all_called()


def test_deploy_deletes_rolled_back_stack_first(aws: FakeAws) -> None:
    expect_stack(aws, "ROLLBACK_COMPLETE", {"BucketName": "old"})
    expect_code(aws)
    expect_no_buckets(aws)
    expect_operation(aws, "delete_stack", ("DELETE_COMPLETE", []))
    expect_change_set(aws, "CREATE", [], "Template error")
    done = run("deploy", "--stack", "photos", "--yes")
    assert "CloudFormation could create no change set: Template error" in done.stderr


def test_deploy_stack_in_review_counts_as_new(aws: FakeAws) -> None:
    expect_stack(aws, "REVIEW_IN_PROGRESS")
    expect_code(aws)
    expect_no_buckets(aws)
    expect_change_set(aws, "CREATE", [], "Template error")
    assert run("deploy", "--stack", "photos", "--yes").exit_code == 1


def test_deploy_during_another_operation_fails(aws: FakeAws) -> None:
    expect_stack(aws, "UPDATE_IN_PROGRESS")
    expect_code(aws)
    done = run("deploy", "--stack", "photos", "--yes")
    assert "UPDATE_IN_PROGRESS: another operation is in progress" in done.stderr


def test_deploy_existing_bucket_needs_take_over(aws: FakeAws) -> None:
    expect_stack(aws)
    expect_code(aws)
    aws.expect("s3", "head_bucket", {"Bucket": "mine", "ExpectedBucketOwner": ACCOUNT})
    done = run("deploy", "--stack", "photos", "--bucket", "mine", "--yes")
    assert "the bucket mine exists already. --take-over makes it part of the stack" in done.stderr
    aws.assert_all_called()


@pytest.mark.parametrize("drifted", ["", "AccessLogs"])
def test_deploy_take_over_imports_by_literal_names_then_applies_settings(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, drifted: str
) -> None:
    text = template.with_literal_names(template.render(Settings()), "mine")
    limits.check_import(cloudformation.read(text))
    digest = hashlib.sha256(text.encode()).hexdigest()
    expect_stack(aws)
    expect_code(aws, files=3)
    bucket_url = f"https://{CODE_BUCKET}.s3.us-east-1.amazonaws.com"
    taken = [{"Action": "Import", "LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket"}]
    url = f"{bucket_url}/template/{digest}.yaml"
    expect_change_set(aws, "CREATE", taken, TemplateURL=url, ImportExistingResources=True)
    expect_operation(aws, "execute_change_set", ("IMPORT_COMPLETE", []), before="REVIEW_IN_PROGRESS")
    url = f"{bucket_url}/{TEMPLATE}"
    expect_change_set(aws, "UPDATE", TemplateURL=url, DeploymentMode="REVERT_DRIFT")
    expect_operation(aws, "execute_change_set", ("UPDATE_COMPLETE", []), before="IMPORT_COMPLETE")
    expect_smoke_test(aws, monkeypatch)
    for bucket in ("Bucket", "AccessLogs"):
        found = drift(bucket, drifted)
        aws.expect("cloudformation", "detect_stack_resource_drift", None, StackResourceDrift=found)
    done = run("deploy", "--stack", "photos", "--bucket", "mine", "--take-over", "--yes")
    assert done.exit_code == bool(drifted), done.output
    assert "The imported buckets get the template's settings:" in done.stdout
    problem = "FAILED  the settings of AccessLogs: /VersioningConfiguration (expected: no difference)"
    assert (problem in done.stdout) == bool(drifted)


def test_deploy_take_over_again_compares_with_actual_settings(aws: FakeAws) -> None:
    expect_stack(aws, "UPDATE_COMPLETE", {"BucketName": "mine"})
    expect_code(aws)
    expect_change_set(aws, "UPDATE", [], "Template error", DeploymentMode="REVERT_DRIFT")
    assert run("deploy", "--stack", "photos", "--take-over", "--yes").exit_code == 1


def test_execute_import_says_that_settings_follow(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [{"Action": "Import", "LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket"}]
    expect_described_change_set(aws, taken)
    expect_operation(aws, "execute_change_set", ("IMPORT_COMPLETE", []), before="REVIEW_IN_PROGRESS")
    expect_smoke_test(aws, monkeypatch)
    assert "until `aws deploy --take-over` is run again" in run("execute", CHANGE_SET).stdout


@pytest.mark.parametrize(
    ("limit", "arguments", "line"),
    [
        ((1000, 1000), (), "at once; --set ReservedConcurrency=100 caps the concurrent renders at 100"),
        ((1000, 150), (), "at once; --set ReservedConcurrency=50 caps the concurrent renders at 50"),
        ((10, 10), (), "is 10 at once; leave ReservedConcurrency at 0: the account's limit caps the renders"),
        ((1000, 1000), ("--set", "ReservedConcurrency=900"), ""),
    ],
)
def test_deploy_suggests_reserved_concurrency(
    aws: FakeAws, limit: tuple[int, int], arguments: tuple[str, ...], line: str
) -> None:
    expect_stack(aws)
    expect_code(aws)
    expect_limit(aws, *limit)
    done = run("deploy", "--stack", "photos", "--dry-run", *arguments)
    assert done.exit_code == 0, done.output
    shown = [one for one in done.stdout.splitlines() if one.startswith("renders ")]
    assert [one.endswith(line) for one in shown] == [True] * bool(line)


@pytest.mark.parametrize(
    ("before", "after", "unreserved", "is_refused"),
    [
        ("0", "901", 1000, True),
        ("0", "900", 1000, False),
        ("50", "900", 950, False),
        ("0", "1", 10, True),
        ("900", None, 100, False),
    ],
)
def test_deploy_reservation_above_limit_is_refused_before_upload(
    aws: FakeAws, before: str, after: str | None, unreserved: int, *, is_refused: bool
) -> None:
    expect_stack(aws, "UPDATE_COMPLETE", {"BucketName": "b", "ReservedConcurrency": before})
    expect_code(aws)
    expect_limit(aws, 1000, unreserved)
    if not is_refused:
        expect_change_set(aws, "UPDATE", [], "Template error")
    arguments = ("--set", f"ReservedConcurrency={after}") if after else ()
    done = run("deploy", "--stack", "photos", "--yes", *arguments)
    assert (f"ReservedConcurrency={after}: the account's limit is 1000" in done.stderr) == is_refused


def expect_limit(aws: FakeAws, account: int, unreserved: int) -> None:
    limit = {"ConcurrentExecutions": account, "UnreservedConcurrentExecutions": unreserved}
    aws.expect("lambda", "get_account_settings", {}, AccountLimit=limit)


def test_deploy_foreign_code_bucket_fails(aws: FakeAws) -> None:
    expect_stack(aws)
    aws.expect_error("s3", "head_bucket", "403", "Forbidden", status=403)
    done = run("deploy", "--stack", "photos", "--yes")
    assert f"{CODE_BUCKET} is not this account's, or these credentials may not read it" in done.stderr


@pytest.mark.parametrize("answer", [None, "n\n", "y\n"])
def test_deploy_newly_public_prefix_needs_confirmation(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    expect_stack(aws, "UPDATE_COMPLETE", {"BucketName": "b"})
    expect_code(aws)
    expect_change_set(aws, "UPDATE")
    metadata = json.dumps({"galerly-cdn": {"PrivatePrefixes": ["clients"]}})
    aws.expect("cloudformation", "get_template_summary", {"StackName": "photos"}, Metadata=metadata)
    if answer == "y\n":
        expect_operation(aws, "execute_change_set", ("UPDATE_COMPLETE", []))
        expect_smoke_test(aws, monkeypatch)
    else:
        expect_declined(aws, "UPDATE_COMPLETE")
    done = run("deploy", "--stack", "photos", *(() if answer else ("--yes",)), answer=answer)
    assert done.exit_code == (0 if answer == "y\n" else 1)
    assert "These private folders become PUBLIC: clients" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "public"),
    [
        ((), ("a",), ()),
        (("a", "b"), ("b", "a"), ()),
        (("a/b",), ("a",), ()),
        (("a",), ("a/b",), ("a",)),
        (("a", "b"), ("a",), ("b",)),
        (("a", "ab"), ("a",), ("ab",)),
        (("a",), ("/",), ()),
        (("/",), ("a",), ("/",)),
    ],
)
def test_newly_public_returns_prefixes_outside_private_ones(
    before: tuple[str, ...], after: tuple[str, ...], public: tuple[str, ...]
) -> None:
    assert change_set.newly_public(before, after) == public


def test_deploy_changed_recipe_says_what_becomes_outdated(aws: FakeAws) -> None:
    expect_stack(aws, "UPDATE_COMPLETE", {"BucketName": "b"})
    expect_code(aws)
    expect_change_set(aws, "UPDATE")
    deployed = recipes.recipes(Settings()) | {"800x600.webp": "other", "1x1.webp": "other"}
    metadata = json.dumps({"galerly-cdn": {"PrivatePrefixes": [], "Recipes": deployed}})
    aws.expect("cloudformation", "get_template_summary", {"StackName": "photos"}, Metadata=metadata)
    aws.expect("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
    done = run("deploy", "--stack", "photos", answer="n\n")
    assert "outdated  stored renditions of 1 targets: 800x600.webp\n" in done.stdout
    assert "galerly-cdn aws warm --stack photos --all" in done.stdout


@pytest.mark.parametrize(
    ("metadata", "outdated"),
    [
        ("", ()),  # a stack of a release without recipes in its metadata
        ('{"galerly-cdn": {"PrivatePrefixes": []}}', ()),
        ('{"galerly-cdn": {"Recipes": {"150x150.jpeg": "other", "1x1.jpeg": "other"}}}', ("150x150.jpeg",)),
    ],
)
def test_outdated_targets_are_those_of_another_recipe(metadata: str, outdated: tuple[str, ...]) -> None:
    assert recipes.outdated(metadata, Settings()) == outdated
    own = cloudformation.read(template.render(Settings()))["Metadata"]
    assert recipes.outdated(json.dumps(own), Settings()) == ()


def test_template_lists_private_prefixes_and_parameters(tmp_path: Path) -> None:
    _, _, secret = keys.create_key_pair(tmp_path, ecdsa=True)
    secret.unlink()
    text = template.render(Settings(private_prefixes=("a", "b/c"), public_keys=str(tmp_path)))
    read = cloudformation.read(text)
    assert change_set.private_prefixes(json.dumps(read["Metadata"])) == ("a", "b/c")
    assert change_set.private_prefixes("") == change_set.private_prefixes("{}") == ()
    for unreadable in ("a: 1", "[]", '{"galerly-cdn": []}'):
        with pytest.raises(DeploymentFailed, match="metadata cannot be read"):
            change_set.private_prefixes(unreadable)
    assert list(template.parameters(text)) == list(read["Parameters"])


def test_execute_prepared_change_set_runs_smoke_test(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    expect_stack(aws, "UPDATE_COMPLETE", {"BucketName": "b"})
    expect_code(aws)
    expect_change_set(aws, "UPDATE")
    aws.expect("cloudformation", "get_template_summary", None)
    prepared = run("deploy", "--stack", "photos", "--prepare")
    assert (prepared.exit_code, prepared.stdout) == (0, f"{CHANGE_SET}\n")
    assert "AWS::SNS::Topic" in prepared.stderr
    expect_described_change_set(aws)
    expect_operation(aws, "execute_change_set", ("UPDATE_COMPLETE", []))
    expect_smoke_test(aws, monkeypatch)
    executed = run("execute", CHANGE_SET)
    assert executed.exit_code == 0, executed.output
    assert "address   https://cdn.example.com\n" in executed.stdout


def test_execute_prints_cloudfront_key_id(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key_id, _, secret = keys.create_key_pair(tmp_path / "keys", ecdsa=True)
    secret.unlink()
    env = {"GALERLY_PUBLIC_KEYS": str(tmp_path / "keys"), "GALERLY_PUBLIC_URLS": "https://cdn.example.com"}
    (key,) = template.keys(Settings(public_keys=env["GALERLY_PUBLIC_KEYS"]))
    monkeypatch.setitem(OUTPUTS, key.output, "K2CLOUDFRONT")
    expect_described_change_set(aws)
    expect_operation(aws, "execute_change_set", ("UPDATE_COMPLETE", []))
    expect_smoke_test(aws, monkeypatch)
    done = run("execute", CHANGE_SET, **env)
    assert f"signing   with {key_id}.private.pem, copied to K2CLOUDFRONT.private.pem: " in done.stdout


def test_change_set_reads_all_pages(aws: FakeAws) -> None:
    one = {"Type": "Resource", "ResourceChange": CHANGES[0]}
    answer = {"Status": "CREATE_COMPLETE", "ChangeSetId": CHANGE_SET, "StackId": ARN, "Changes": [one]}
    aws.expect("cloudformation", "describe_change_set", None, **answer, NextToken="2")
    aws.expect("cloudformation", "describe_change_set", None, **answer)
    created = stack.Stack("photos", print).change_set(CHANGE_SET)
    assert created is not None
    assert len(created.changes) == 2


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({"Action": "Add"}, "added"),
        ({"Action": "Remove"}, "removed"),
        ({"Action": "Remove", "PolicyAction": "Retain"}, "removed from the stack, kept"),
        ({"Action": "Import"}, "taken over"),
        ({"Action": "Modify", "Replacement": "False"}, "modified"),
        ({"Action": "Modify", "Replacement": "Conditional"}, "modified, perhaps REPLACED"),
        ({"Action": "Modify", "Replacement": "True"}, "REPLACED"),
    ],
)
def test_read_change_returns_action(fields: dict[str, Any], action: str) -> None:
    change = change_set.read_change({"LogicalResourceId": "A", "ResourceType": "T", **fields})
    assert change == change_set.Change("A", "T", action)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--stack", "my photos"], "--stack: 'my photos' is no name"),
        (["--stack", "p" * 46], "has 46 characters, not up to 45: the bucket for access logs, "),
        (
            ["--stack", "photos", "--bucket", "b" * 59],
            "--bucket: 59 characters, not up to 58: the bucket for",
        ),
        (["--stack", "photos", "--set", "Memory"], "--set Memory: write NAME=VALUE."),
        (["--stack", "photos", "--private", "clients"], "private_prefixes needs public_keys"),
        (["--stack", "photos", "--avif", "maybe"], "Invalid value for '--avif'"),
        (["--stack", "photos", "--budget", "-1"], "Invalid value for '--budget'"),
        (["--stack", "photos", "--waf", "on"], "Invalid value for '--waf'"),
        ([], "Missing option '--stack'"),
    ],
)
def test_deploy_usage_error_exits_with_2(arguments: list[str], complaint: str) -> None:
    done = run("deploy", *arguments)
    assert done.exit_code == 2
    assert complaint in done.stderr


def test_deploy_unknown_parameter_is_refused(aws: FakeAws) -> None:
    expect_stack(aws)
    done = run("deploy", "--stack", "photos", "--set", "Memroy=1", "--dry-run")
    error = "galerly-cdn: --set: the template has no parameter Memroy"
    assert (done.exit_code, done.stderr.splitlines()[1:]) == (2, [error])


def test_without_avif_removes_avif_from_sizes() -> None:
    rules = deployment.without_avif(Settings()).size_rules
    assert [rule.size for rule in rules] == [rule.size for rule in Settings().size_rules]
    assert {form for rule in rules for form in rule.qualities} == {"jpeg", "webp", "png"}


def test_check_request_invalid_stack_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="is no name"):
        deployment.check_request(deployment.DeploymentRequest("9lives", {}))
