"""Tests of `aws deploy` and `aws execute`, over expected AWS calls."""

from __future__ import annotations

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
    event,
    expect_change_set,
    expect_code,
    expect_described_change_set,
    expect_missing_bucket,
    expect_no_buckets,
    expect_operation,
    expect_smoke_test,
    expect_stack,
)
from tests.support.fake_aws import ANY, FakeAws, aws

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["aws"]


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
    monkeypatch.setattr(deployment, "MAX_BODY_BYTES", 55_000)  # these tests send the template in the call
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
    given = {
        "BucketName": BUCKET,
        "CodeBucket": CODE_BUCKET,
        "CodeKey": code,
        "Prewarm": "on",
        "Memory": "2048",
    }
    expect_change_set(aws, "CREATE", Parameters=ParameterValues(given))
    making = [event(1, "Bucket", "CREATE_IN_PROGRESS")]
    finished = [*making, event(2, "Bucket", "CREATE_COMPLETE")]
    expect_operation(aws, "execute_change_set", ("CREATE_IN_PROGRESS", making), ("CREATE_COMPLETE", finished))
    expect_smoke_test(aws, monkeypatch)
    done = run("deploy", "--stack", "photos", "--prewarm", "on", "--set", "Memory=2048", answer="y\n")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert f"upload    {code}" in lines
    assert f"          BucketName = {BUCKET}" in lines
    assert [line.split()[:2] for line in lines if "AWS::SNS" in line] == [["added", "AWS::SNS::Topic"]]
    assert any(line.startswith("REPLACED ") and line.endswith("Viewer: Name") for line in lines)
    events = [line.split() for line in lines if line.startswith("12:30:45")]
    assert [event[1] for event in events] == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    assert "address   https://cdn.example.com" in lines
    assert "purging   GALERLY_DISTRIBUTION=E2EXAMPLE0000" in lines
    assert sum(line.startswith("ok ") for line in lines) == 2 * 4 + 5
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
    given = {"BucketName": None, "CodeBucket": "mine", "CodeKey": code, "Memory": None, "Domain": ""}
    role = f"arn:aws:iam::{ACCOUNT}:role/cloudformation"
    reason = "The submitted information didn't contain changes. Submit different information."
    expect_change_set(aws, "UPDATE", [], reason, Parameters=ParameterValues(given), RoleARN=role)
    aws.expect("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
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
    assert f"upload    {code}" in lines
    assert any(line.startswith("template  ") and line.endswith("sent in the API call") for line in lines)


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
    assert done.stderr == "galerly-cdn: AWS refused the request. (GetCallerIdentity: ExpiredToken: expired)\n"


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_deploy_unconfirmed_deletes_change_set_and_new_stack(aws: FakeAws, answer: str) -> None:
    expect_stack(aws)
    expect_code(aws)
    expect_no_buckets(aws)
    expect_change_set(aws, "CREATE")
    aws.expect("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
    aws.expect("cloudformation", "delete_stack", {"StackName": "photos"})
    assert run("deploy", "--stack", "photos", answer=answer).exit_code == 1


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
    expect_operation(aws, "execute_change_set", ("ROLLBACK_IN_PROGRESS", events[:2]), (status, events))
    done = run("deploy", "--stack", "photos", "--yes")
    assert done.exit_code == 1
    detail = f"{status}: Resizer (AWS::S3::Bucket): concurrency is below its minimum {advice}"
    assert done.stderr == f"galerly-cdn: The deployment failed. ({detail})\n"


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

    expect_stack(aws)
    expect_code(aws)
    expect_change_set(aws, "CREATE", [], "Template error", ImportExistingResources=True)
    assert run("deploy", "--stack", "photos", "--bucket", "mine", "--take-over", "--yes").exit_code == 1


def test_deploy_foreign_code_bucket_fails(aws: FakeAws) -> None:
    expect_stack(aws)
    aws.expect_error("s3", "head_bucket", "403", "Forbidden", status=403)
    done = run("deploy", "--stack", "photos", "--yes")
    assert f"{CODE_BUCKET} is not this account's, or these credentials may not read it" in done.stderr


def test_deploy_large_template_is_uploaded(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "MAX_BODY_BYTES", 1000)
    expect_stack(aws)
    expect_code(aws)
    aws.expect_error("s3", "head_object", "404", status=404)
    expect_no_buckets(aws)
    aws.expect("s3", "put_object", None)
    request = {"StackName": "photos", "ChangeSetName": ANY, "ChangeSetType": "CREATE", "Parameters": ANY}
    request |= {"TemplateURL": ANY, "Capabilities": ANY}
    aws.expect_error("cloudformation", "create_change_set", "ValidationError", "too many", request)
    done = run("deploy", "--stack", "photos", "--yes")
    assert "uploaded to the code bucket" in done.stdout
    assert "CreateChangeSet: ValidationError: too many" in done.stderr


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
        aws.expect("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
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
    deployed = recipes.recipes(Settings()) | {"800x600": "other", "1x1": "other"}
    metadata = json.dumps({"galerly-cdn": {"PrivatePrefixes": [], "Recipes": deployed}})
    aws.expect("cloudformation", "get_template_summary", {"StackName": "photos"}, Metadata=metadata)
    aws.expect("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
    done = run("deploy", "--stack", "photos", answer="n\n")
    assert "outdated  stored renditions of 1 targets: 800x600\n" in done.stdout
    assert "galerly-cdn aws warm --stack photos --all" in done.stdout


@pytest.mark.parametrize(
    ("metadata", "outdated"),
    [
        ("", ()),  # a stack of a release without recipes in its metadata
        ('{"galerly-cdn": {"PrivatePrefixes": []}}', ()),
        ('{"galerly-cdn": {"Recipes": {"150x150": "other", "1x1": "other"}}}', ("150x150",)),
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
        (["--stack", "p" * 51], "is no name"),
        (["--stack", "photos", "--set", "Memory"], "--set Memory: write NAME=VALUE."),
        (["--stack", "photos", "--private", "clients"], "private_prefixes needs public_keys"),
        (["--stack", "photos", "--avif", "maybe"], "Invalid value for '--avif'"),
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
    assert (done.exit_code, done.stderr) == (2, "galerly-cdn: --set: the template has no parameter Memroy\n")


def test_without_avif_removes_avif_from_sizes() -> None:
    rules = deployment.without_avif(Settings()).size_rules
    assert [rule.size for rule in rules] == [rule.size for rule in Settings().size_rules]
    assert {form for rule in rules for form in rule.qualities} == {"jpeg", "webp", "png"}


def test_check_request_invalid_stack_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="is no name"):
        deployment.check_request(deployment.DeploymentRequest("9lives", {}))
