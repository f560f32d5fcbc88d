"""Tests of the example workflow and its roles: no stored keys, one repository, a preview of every change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks import role_permissions
from galerly_cdn.access import keys
from galerly_cdn.aws.deploy import template
from galerly_cdn.aws_local.cloudformation import yaml_template as cloudformation
from galerly_cdn.aws_local.cloudformation.intrinsic_functions import Resolver
from galerly_cdn.cli.aws import commands
from galerly_cdn.settings.table import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
ROLES: dict[str, Any] = cloudformation.read((DEPLOY / "github-role.yaml").read_text())["Resources"]
ISSUER = "token.actions.githubusercontent.com"
TEXT = (DEPLOY / "github-actions.yml").read_text()
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
SERVICES = {
    "AWS::Budgets": "budgets",
    "AWS::CloudFront": "cloudfront",
    "AWS::CloudWatch": "cloudwatch",
    "AWS::Events": "events",
    "AWS::IAM": "iam",
    "AWS::Lambda": "lambda",
    "AWS::Logs": "logs",
    "AWS::Route53": "route53",
    "AWS::S3": "s3",
    "AWS::SNS": "sns",
    "AWS::SQS": "sqs",
    "AWS::WAFv2": "wafv2",
}


def actions(role: str) -> set[str]:
    """Every action that a role allows, also under a condition."""
    return role_permissions.allowed_actions(ROLES[role])


def trusted_subjects(role: str, **parameters: str) -> list[str]:
    """The values of `sub` that a role trusts, with these parameters of the template."""
    document = cloudformation.read((DEPLOY / "github-role.yaml").read_text())
    values: dict[str, object] = {"OwnerId": "", "RepositoryId": "", **parameters}
    resolver = Resolver(lambda name, _: values[name], document["Conditions"], {}, role)
    (trust,) = ROLES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    found = resolver.resolve(trust["Condition"]["StringEquals"][f"{ISSUER}:sub"])
    return [found] if isinstance(found, str) else list(found)


@pytest.mark.parametrize(("role", "environment"), [("PreviewRole", "preview"), ("DeployRole", "production")])
def test_role_can_be_assumed_by_one_environment_of_one_repository(role: str, environment: str) -> None:
    (trust,) = ROLES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    (condition,) = trust["Condition"].items()
    assert condition[0] == "StringEquals"
    assert set(condition[1]) == {f"{ISSUER}:aud", f"{ISSUER}:sub"}
    assert condition[1][f"{ISSUER}:aud"] == "sts.amazonaws.com"
    by_name = f"repo:acme/photos:environment:{environment}"
    assert trusted_subjects(role, Repository="acme/photos") == [by_name]
    ids = {"OwnerId": "123", "RepositoryId": "456"}
    assert trusted_subjects(role, Repository="acme/photos", **ids) == [
        by_name,
        f"repo:acme@123/photos@456:environment:{environment}",
    ]


def test_preview_role_cannot_execute_and_deploy_role_cannot_prepare() -> None:
    assert "cloudformation:ExecuteChangeSet" not in actions("PreviewRole")
    assert not {"cloudformation:CreateChangeSet", "iam:PassRole"} & actions("DeployRole")
    assert not {one for role in ("PreviewRole", "DeployRole") for one in actions(role) if "*" in one}


def test_preview_role_cannot_delete_a_protected_stack() -> None:
    """It deletes a stack that was never created; every other one is protected."""
    assert "cloudformation:DeleteStack" in actions("PreviewRole")
    assert "cloudformation:UpdateTerminationProtection" not in actions("PreviewRole")
    assert "cloudformation:UpdateTerminationProtection" in actions("DeployRole")
    assert "cloudformation:DeleteStack" not in actions("DeployRole")


@pytest.mark.parametrize(
    ("action", "is_missing"),
    [
        ("s3:CreateBucket", False),
        ("S3:createbucket", False),
        ("s3:PutBucketTagging", False),
        ("s3:PutReplicationConfiguration", False),
        ("s3:CreateAccessPoint", True),
        ("logs:GetDeliveryDestinationPolicy", False),
    ],
)
def test_permission_that_a_schema_needs_is_allowed_or_unused(action: str, *, is_missing: bool) -> None:
    handlers = {"create": {"permissions": [action]}, "list": {"permissions": ["s3:ListAllMyBuckets"]}}
    schema = {"typeName": "AWS::S3::Bucket", "handlers": handlers}
    found = list(role_permissions.missing(actions("ServiceRole"), [schema]))
    assert found == [("AWS::S3::Bucket", action)] * is_missing


def test_no_role_may_read_an_original() -> None:
    assert "s3:GetObject" not in actions("DeployRole")
    (code,) = (
        one["Resource"]
        for one in ROLES["PreviewRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        if "s3:GetObject" in one["Action"]
    )
    assert all(one["Fn::Sub"].startswith("${CodeBucket.Arn}/") for one in code)


def test_service_role_covers_every_service_of_the_template(tmp_path: Path) -> None:
    _, _, secret = keys.create_key_pair(tmp_path, ecdsa=True)
    secret.unlink()
    settings = Settings(private_prefixes=("clients",), public_keys=str(tmp_path))
    resources = cloudformation.read(template.render(settings, with_lambda_edge=True))["Resources"]
    types = {one["Type"].rpartition("::")[0] for one in resources.values()}
    assert types <= set(SERVICES)
    allowed = {one.partition(":")[0] for one in actions("ServiceRole")}
    assert {SERVICES[resource_type] for resource_type in types} <= allowed


def test_job_has_environment_least_permissions_and_no_secret() -> None:
    jobs = WORKFLOW["jobs"]
    assert {name: job["environment"] for name, job in jobs.items()} == {
        "preview": "preview",
        "deploy": "production",
    }
    assert WORKFLOW["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read", "id-token": "write"} for job in jobs.values())
    assert "secrets." not in TEXT


def test_release_is_published_by_a_job_that_runs_no_code_of_the_repository() -> None:
    text = (DEPLOY / "github-release.yml").read_text()
    publish = yaml.safe_load(text)["jobs"]["publish"]
    assert publish["environment"] == "release"
    assert publish["permissions"] == {"id-token": "write"}
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert "secrets." not in text


@pytest.mark.parametrize("name", ["github-actions.yml", "github-release.yml"])
def test_every_action_is_pinned_by_commit(name: str) -> None:
    used = re.findall(r"uses: (.*)", (DEPLOY / name).read_text())
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in used)


def test_every_command_and_option_of_the_workflow_exists() -> None:
    lines = re.findall(r"galerly-cdn aws (\w+)([^>|\n]*(?:\\\n[^>|\n]*)*)", TEXT)
    assert {name for name, _ in lines} == {"deploy", "execute"}
    for name, line in lines:
        command = commands.aws.commands[name]
        known = {option for one in command.params for option in one.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= known
