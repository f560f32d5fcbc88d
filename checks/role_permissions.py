"""Checks that the role that CloudFormation assumes may do what the resource schemas say that they need.

`python -m checks.role_permissions SCHEMAS TEMPLATE…`: SCHEMAS is the folder of cfn-lint's copy of the
registry's schemas, whose `handlers` list the permissions for creating, reading, updating and deleting a
resource. An action that none of our resources uses is in `UNUSED`, with the reason.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws_local.cloudformation import yaml_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROLES = Path(__file__).parents[1] / "deploy" / "github-role.yaml"
_OTHER_BUCKET = "our buckets do not have this configuration"
UNUSED: Mapping[tuple[str, str], str] = {
    ("*", "ec2:*"): "no function is in a VPC",
    ("*", "elasticfilesystem:*"): "no function has a file system",
    ("*", "s3files:*"): "no function has a file system",
    ("*", "kms:*"): "everything is encrypted with AWS's own keys",
    ("AWS::Budgets::Budget", "billing:GetBillingViewData"): "the budget has no billing view",
    ("AWS::IAM::Role", "iam:*tachRolePolicy"): "the roles have inline policies only",
    ("AWS::IAM::Role", "iam:*RolePermissionsBoundary"): "the roles have no boundary",
    ("AWS::IAM::Role", "iam:UpdateRoleDescription"): "the roles have no description",
    ("AWS::Logs::DeliverySource", "[!l]*:AllowVendedLogDeliveryForResource"): "the source is CloudFront",
    ("AWS::Logs::DeliverySource", "logs:AllowVendedLogDeliveryForResource"): "the source is CloudFront",
    ("AWS::Logs::LogGroup", "firehose:*"): "the groups are delivered nowhere",
    ("AWS::Logs::LogGroup", "s3:REST.PUT.OBJECT"): "the groups are delivered nowhere",
    ("AWS::Logs::LogGroup", "logs:CreateLogDelivery"): "the groups are delivered nowhere",
    ("AWS::Logs::LogGroup", "logs:*ssociateKmsKey"): "everything is encrypted with AWS's own keys",
    ("AWS::Logs::LogGroup", "logs:PutBearerTokenAuthentication"): "the groups have no such property",
    ("AWS::Logs::LogGroup", "logs:PutLogGroupDeletionProtection"): "the groups have no such property",
    ("AWS::Logs::LogGroup", "logs:[PD]*DataProtectionPolicy"): "the groups have no such policy",
    ("AWS::Logs::LogGroup", "logs:[PD]*IndexPolicy"): "the groups have no such policy",
    ("AWS::Logs::LogGroup", "logs:[PD]*ResourcePolicy"): "the groups have no such policy",
    ("AWS::S3::Bucket", "s3tables:*"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*MetadataTableConfiguration"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:UpdateBucketMetadata*"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*ccelerateConfiguration"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*AnalyticsConfiguration"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*IntelligentTieringConfiguration"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*InventoryConfiguration"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*MetricsConfiguration"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*ObjectLockConfiguration"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:*Replication*"): _OTHER_BUCKET,
    ("AWS::S3::Bucket", "s3:DeleteBucketWebsite"): _OTHER_BUCKET,
    (
        "AWS::S3::Bucket",
        "s3:DeleteBucket[CEL]*",
    ): "S3 has no such action; the action that puts them allows it",
    ("AWS::S3::Bucket", "s3:*Object*"): "objects are neither written nor deleted by CloudFormation",
    ("AWS::WAFv2::WebACL", "payments:*"): "no rules are bought",
}
"""Reasons by resource type and action, both as patterns."""


def allowed_actions(role: Mapping[str, Any]) -> set[str]:
    """Every action that a role allows, also under a condition."""
    actions: set[str] = set()
    for policy in role["Properties"]["Policies"]:
        for one in policy["PolicyDocument"]["Statement"]:
            statement = one["Fn::If"][1] if "Fn::If" in one else one
            listed = statement["Action"]
            actions |= {listed} if isinstance(listed, str) else set(listed)
    return actions


def missing(allowed: Iterable[str], schemas: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The resource types and actions that schemas need, and that are neither allowed nor unused."""
    patterns = [one.lower() for one in allowed]
    for schema in schemas:
        type_name = str(schema["typeName"])
        handlers = {name: one for name, one in schema.get("handlers", {}).items() if name != "list"}
        for action in sorted({action for one in handlers.values() for action in one.get("permissions", [])}):
            is_allowed = any(fnmatch.fnmatchcase(action.lower(), pattern) for pattern in patterns)
            if not is_allowed and not _is_unused(type_name, action):
                yield type_name, action


def _is_unused(type_name: str, action: str) -> bool:
    return any(
        fnmatch.fnmatchcase(type_name, resource) and fnmatch.fnmatchcase(action, pattern)
        for resource, pattern in UNUSED
    )


def main(folder: str, *templates: str) -> int:
    types = {
        one["Type"]
        for file in templates
        for one in yaml_template.read(Path(file).read_text("utf-8"))["Resources"].values()
    }
    loaded = (json.loads(file.read_text("utf-8")) for file in sorted(Path(folder).glob("*.json")))
    schemas = [schema for schema in loaded if schema.get("typeName") in types]
    role = yaml_template.read(ROLES.read_text("utf-8"))["Resources"]["ServiceRole"]
    found = list(missing(allowed_actions(role), schemas))
    for type_name, action in found:
        print(f"{ROLES.name}: ServiceRole may not {action}, which {type_name} needs")
    unknown = types - {schema["typeName"] for schema in schemas}
    for type_name in sorted(unknown):
        print(f"{type_name} has no schema")
    print(f"role permissions: {len(found)} actions are missing for {len(schemas)} types of resources")
    return bool(found or unknown)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
