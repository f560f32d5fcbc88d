"""A deployment shows, asks, does and tries; what goes wrong says what, why, and what to do."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.access import keys
from galerly_cdn.aws.deploy import build, change_set, deployment, lambda_packages, smoke_test, stack, template
from galerly_cdn.aws_local.cloudformation import yaml_template as cloudformation
from galerly_cdn.errors import DeploymentFailed, SettingsError
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
    described,
    event,
    follows,
    has_code,
    has_no_buckets,
    is_known,
    is_tried,
    lacks,
    proposes,
)
from tests.support.fake_aws import ANY, Amazon, amazon

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["amazon"]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The key of the code, of one small wheel in the place of what pip would fetch."""
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


def test_a_new_stack_is_built_uploaded_shown_asked_for_made_and_tried(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    is_known(amazon)
    lacks(amazon, CODE_BUCKET)
    has_no_buckets(amazon)
    amazon.expects("s3", "create_bucket", {"Bucket": CODE_BUCKET, "ObjectOwnership": "BucketOwnerEnforced"})
    blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    blocked = {"PublicAccessBlockConfiguration": dict.fromkeys(blocks, True)}
    amazon.expects("s3", "put_public_access_block", OWNED | blocked)
    amazon.expects("s3", "put_bucket_policy", OWNED | {"Policy": ANY})
    amazon.expects("s3", "put_object", OWNED | {"Key": code, "Body": ANY})
    given = {
        "BucketName": BUCKET,
        "CodeBucket": CODE_BUCKET,
        "CodeKey": code,
        "Prewarm": "on",
        "Memory": "2048",
    }
    proposes(amazon, "CREATE", Parameters=Spelt(given))
    making = [event(1, "Bucket", "CREATE_IN_PROGRESS")]
    made = [*making, event(2, "Bucket", "CREATE_COMPLETE")]
    follows(amazon, "execute_change_set", ("CREATE_IN_PROGRESS", making), ("CREATE_COMPLETE", made))
    is_tried(amazon, monkeypatch)
    done = run("deploy", "--stack", "photos", "--prewarm", "on", "--set", "Memory=2048", answer="y\n")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert f"upload    {code}" in lines
    assert f"          BucketName = {BUCKET}" in lines
    assert [line.split()[:2] for line in lines if "AWS::SNS" in line] == [["added", "AWS::SNS::Topic"]]
    assert any(line.startswith("REPLACED ") and line.endswith("Viewer: Name") for line in lines)
    told = [line.split() for line in lines if line.startswith("12:30:45")]
    assert [words[1] for words in told] == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    assert "address   https://cdn.example.com" in lines
    assert "purging   GALERLY_DISTRIBUTION=E2EXAMPLE0000" in lines
    assert sum(line.startswith("ok ") for line in lines) == 2 * 4 + 5
    assert "Do it?" in done.stderr


class Spelt:
    """Equal to a change set's parameters of these values; None is what is as it was."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        self._values = values

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, list)
        return {one["ParameterKey"]: one.get("ParameterValue") for one in other} == self._values

    def __hash__(self) -> int:
        return 0


def test_what_is_not_told_stays_as_it_is_deployed(amazon: Amazon, code: str) -> None:
    known = {
        "BucketName": "old",
        "CodeBucket": "mine",
        "CodeKey": "code/old.zip",
        "Memory": "2048",
        "Gone": "1",
    }
    is_known(amazon, "UPDATE_COMPLETE", known)
    amazon.expects("s3", "head_bucket", OWNED | {"Bucket": "mine"})
    amazon.expects("s3", "head_object", OWNED | {"Bucket": "mine", "Key": code})
    given = {"BucketName": None, "CodeBucket": "mine", "CodeKey": code, "Memory": None, "Domain": ""}
    role = f"arn:aws:iam::{ACCOUNT}:role/cloudformation"
    reason = "The submitted information didn't contain changes. Submit different information."
    proposes(amazon, "UPDATE", [], reason, Parameters=Spelt(given), RoleARN=role)
    amazon.expects("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
    done = run("deploy", "--stack", "photos", "--domain", "", "--role", role, "--yes")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        0,
        "No changes: what is deployed is what was asked for.",
    )


def test_a_dry_run_shows_it_all_and_only_asks(amazon: Amazon, code: str) -> None:
    is_known(amazon)
    lacks(amazon, CODE_BUCKET)
    done = run("deploy", "--stack", "photos", "--dry-run")
    lines = done.stdout.splitlines()
    assert (done.exit_code, lines[-1]) == (0, "Nothing was uploaded, made or changed.")
    assert f"upload    {code}" in lines
    assert any(line.startswith("template  ") and line.endswith("in the call") for line in lines)


def test_a_dry_run_without_credentials_shows_what_it_can(amazon: Amazon) -> None:
    amazon.refuses("sts", "get_caller_identity", "ExpiredToken", "expired")
    done = run("deploy", "--stack", "photos", "--dry-run")
    assert (done.exit_code, done.stdout.splitlines()[-2:]) == (
        0,
        [
            "What the account has could not be asked: GetCallerIdentity: ExpiredToken: expired",
            "Nothing was uploaded, made or changed.",
        ],
    )


def test_without_credentials_nothing_is_deployed(amazon: Amazon) -> None:
    amazon.refuses("sts", "get_caller_identity", "ExpiredToken", "expired")
    done = run("deploy", "--stack", "photos", "--yes")
    assert done.exit_code == 1
    assert done.stderr == "galerly-cdn: AWS refused the request. (GetCallerIdentity: ExpiredToken: expired)\n"


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_who_says_no_or_leaves_leaves_nothing_behind(amazon: Amazon, answer: str) -> None:
    is_known(amazon)
    has_code(amazon)
    has_no_buckets(amazon)
    proposes(amazon, "CREATE")
    amazon.expects("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
    amazon.expects("cloudformation", "delete_stack", {"StackName": "photos"})
    assert run("deploy", "--stack", "photos", answer=answer).exit_code == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("ROLLBACK_COMPLETE", "Nothing of it is left running. Mend the cause and deploy again."),
        ("ROLLBACK_FAILED", "Delete it (`galerly-cdn aws destroy`) and deploy again."),
    ],
)
def test_a_failure_names_the_first_resource_and_its_reason(amazon: Amazon, status: str, advice: str) -> None:
    is_known(amazon)
    has_code(amazon)
    has_no_buckets(amazon)
    proposes(amazon, "CREATE")
    events = [
        event(1, "Signers", "CREATE_FAILED", "Resource creation cancelled"),
        event(2, "Resizer", "CREATE_FAILED", "concurrency is below its minimum"),
        event(3, "photos", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Resizer]"),
        event(4, "Bucket", "DELETE_FAILED", "a consequence"),
    ]
    follows(amazon, "execute_change_set", ("ROLLBACK_IN_PROGRESS", events[:2]), (status, events))
    done = run("deploy", "--stack", "photos", "--yes")
    assert done.exit_code == 1
    told = f"{status}: Resizer (AWS::S3::Bucket): concurrency is below its minimum {advice}"
    assert done.stderr == f"galerly-cdn: The deployment failed. ({told})\n"


def test_what_a_failed_first_deployment_left_is_deleted_first(amazon: Amazon) -> None:
    is_known(amazon, "ROLLBACK_COMPLETE", {"BucketName": "old"})
    has_code(amazon)
    has_no_buckets(amazon)
    follows(amazon, "delete_stack", ("DELETE_COMPLETE", []))
    proposes(amazon, "CREATE", [], "Template error")
    done = run("deploy", "--stack", "photos", "--yes")
    assert "CloudFormation could make no change set: Template error" in done.stderr


def test_a_change_set_that_was_never_executed_is_no_stack_yet(amazon: Amazon) -> None:
    is_known(amazon, "REVIEW_IN_PROGRESS")
    has_code(amazon)
    has_no_buckets(amazon)
    proposes(amazon, "CREATE", [], "Template error")
    assert run("deploy", "--stack", "photos", "--yes").exit_code == 1


def test_while_somebody_else_deploys_nothing_is_done(amazon: Amazon) -> None:
    is_known(amazon, "UPDATE_IN_PROGRESS")
    has_code(amazon)
    done = run("deploy", "--stack", "photos", "--yes")
    assert "UPDATE_IN_PROGRESS: another operation is under way" in done.stderr


def test_a_bucket_that_is_there_is_taken_over_only_when_told(amazon: Amazon) -> None:
    is_known(amazon)
    has_code(amazon)
    amazon.expects("s3", "head_bucket", {"Bucket": "mine", "ExpectedBucketOwner": ACCOUNT})
    done = run("deploy", "--stack", "photos", "--bucket", "mine", "--yes")
    assert "the bucket mine exists already. --take-over makes it part of the stack" in done.stderr
    amazon.was_asked_it_all()

    is_known(amazon)
    has_code(amazon)
    proposes(amazon, "CREATE", [], "Template error", ImportExistingResources=True)
    assert run("deploy", "--stack", "photos", "--bucket", "mine", "--take-over", "--yes").exit_code == 1


def test_somebody_else_s_code_bucket_is_not_used(amazon: Amazon) -> None:
    is_known(amazon)
    amazon.refuses("s3", "head_bucket", "403", "Forbidden", status=403)
    done = run("deploy", "--stack", "photos", "--yes")
    assert f"{CODE_BUCKET} is not this account's, or may not be read" in done.stderr


def test_a_template_too_large_for_a_call_goes_by_the_code_bucket(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "MAX_BODY_BYTES", 1000)
    is_known(amazon)
    has_code(amazon)
    amazon.refuses("s3", "head_object", "404", status=404)
    has_no_buckets(amazon)
    amazon.expects("s3", "put_object", None)
    request = {"StackName": "photos", "ChangeSetName": ANY, "ChangeSetType": "CREATE", "Parameters": ANY}
    request |= {"TemplateURL": ANY, "Capabilities": ANY}
    amazon.refuses("cloudformation", "create_change_set", "ValidationError", "too many", request)
    done = run("deploy", "--stack", "photos", "--yes")
    assert "by way of the code bucket" in done.stdout
    assert "CreateChangeSet: ValidationError: too many" in done.stderr


@pytest.mark.parametrize("answer", [None, "n\n", "y\n"])
def test_what_was_private_is_opened_by_a_person_alone(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    is_known(amazon, "UPDATE_COMPLETE", {"BucketName": "b"})
    has_code(amazon)
    proposes(amazon, "UPDATE")
    metadata = json.dumps({"galerly-cdn": {"PrivatePrefixes": ["clients"]}})
    amazon.expects("cloudformation", "get_template_summary", {"StackName": "photos"}, Metadata=metadata)
    if answer == "y\n":
        follows(amazon, "execute_change_set", ("UPDATE_COMPLETE", []))
        is_tried(amazon, monkeypatch)
    else:
        amazon.expects("cloudformation", "delete_change_set", {"ChangeSetName": CHANGE_SET})
    done = run("deploy", "--stack", "photos", *(() if answer else ("--yes",)), answer=answer)
    assert done.exit_code == (0 if answer == "y\n" else 1)
    assert "ANYBODY will see what was private: clients" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "opened"),
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
def test_a_prefix_is_opened_unless_it_lies_in_one_that_is_private(
    before: tuple[str, ...], after: tuple[str, ...], opened: tuple[str, ...]
) -> None:
    assert change_set.newly_public(before, after) == opened


def test_a_template_tells_its_private_prefixes_and_its_parameters(tmp_path: Path) -> None:
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


def test_a_prepared_change_set_is_executed_by_its_arn_and_tried(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_known(amazon, "UPDATE_COMPLETE", {"BucketName": "b"})
    has_code(amazon)
    proposes(amazon, "UPDATE")
    amazon.expects("cloudformation", "get_template_summary", None)
    prepared = run("deploy", "--stack", "photos", "--prepare")
    assert (prepared.exit_code, prepared.stdout) == (0, f"{CHANGE_SET}\n")
    assert "AWS::SNS::Topic" in prepared.stderr
    described(amazon)
    follows(amazon, "execute_change_set", ("UPDATE_COMPLETE", []))
    is_tried(amazon, monkeypatch)
    executed = run("execute", CHANGE_SET)
    assert executed.exit_code == 0, executed.output
    assert "address   https://cdn.example.com\n" in executed.stdout


def test_the_name_that_cloudfront_gave_a_key_is_told(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key_id, _, secret = keys.create_key_pair(tmp_path / "keys", ecdsa=True)
    secret.unlink()
    env = {"GALERLY_PUBLIC_KEYS": str(tmp_path / "keys"), "GALERLY_PUBLIC_URLS": "https://cdn.example.com"}
    (key,) = template.keys(Settings(public_keys=env["GALERLY_PUBLIC_KEYS"]))
    monkeypatch.setitem(OUTPUTS, key.output, "K2CLOUDFRONT")
    described(amazon)
    follows(amazon, "execute_change_set", ("UPDATE_COMPLETE", []))
    is_tried(amazon, monkeypatch)
    done = run("execute", CHANGE_SET, **env)
    assert f"signing   by {key_id}.private.pem, copied to K2CLOUDFRONT.private.pem: " in done.stdout


def test_a_long_change_set_is_shown_to_its_end(amazon: Amazon) -> None:
    one = {"Type": "Resource", "ResourceChange": CHANGES[0]}
    answer = {"Status": "CREATE_COMPLETE", "ChangeSetId": CHANGE_SET, "StackId": ARN, "Changes": [one]}
    amazon.expects("cloudformation", "describe_change_set", None, **answer, NextToken="2")
    amazon.expects("cloudformation", "describe_change_set", None, **answer)
    proposed = stack.Stack("photos", print).proposed(CHANGE_SET)
    assert proposed is not None
    assert len(proposed.changes) == 2


@pytest.mark.parametrize(
    ("told", "becomes"),
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
def test_a_change_is_told_in_words(told: dict[str, Any], becomes: str) -> None:
    one = change_set.read_change({"LogicalResourceId": "A", "ResourceType": "T", **told})
    assert one == change_set.Change("A", "T", becomes)


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
def test_what_is_asked_wrongly_ends_with_2(arguments: list[str], complaint: str) -> None:
    done = run("deploy", *arguments)
    assert done.exit_code == 2
    assert complaint in done.stderr


def test_a_parameter_that_the_template_has_not_is_refused(amazon: Amazon) -> None:
    is_known(amazon)
    done = run("deploy", "--stack", "photos", "--set", "Memroy=1", "--dry-run")
    assert (done.exit_code, done.stderr) == (2, "galerly-cdn: --set: the template has no parameter Memroy\n")


def test_without_avif_no_size_offers_it() -> None:
    rules = deployment.without_avif(Settings()).size_rules
    assert [rule.size for rule in rules] == [rule.size for rule in Settings().size_rules]
    assert {form for rule in rules for form in rule.qualities} == {"jpeg", "webp", "png"}


def test_a_name_that_resources_cannot_begin_with_is_refused() -> None:
    with pytest.raises(SettingsError, match="is no name"):
        deployment.checked_request(deployment.DeploymentRequest("9lives", {}))
