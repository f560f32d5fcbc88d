"""Tests of the rendered CloudFormation template: resources, permissions, timeouts and settings."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from galerly_cdn.access import keys as keyring
from galerly_cdn.aws.deploy import template
from galerly_cdn.aws.functions import emf
from galerly_cdn.aws.viewer import source
from galerly_cdn.aws_local.cloudformation import yaml_template as cloudformation
from galerly_cdn.errors import SettingsError, UnknownPath
from galerly_cdn.http import responses
from galerly_cdn.render.pool import fork_server_process
from galerly_cdn.serialization import replaced
from galerly_cdn.settings import load
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIXES = ("clients", "studio/2026")
PUBLIC = cloudformation.read(template.render(Settings()))
RESOURCES = PUBLIC["Resources"]
DISTRIBUTION = RESOURCES["Distribution"]["Properties"]["DistributionConfig"]
FUNCTIONS = ["Resizer", "PrewarmFunction", "JanitorFunction"]


@pytest.fixture
def private(tmp_path: Path) -> Settings:
    for _ in range(2):
        _, _, secret = keyring.create_key_pair(tmp_path, ecdsa=True)
        secret.unlink()
    return Settings(private_prefixes=PREFIXES, public_keys=str(tmp_path))


def properties(name: str, resources: dict[str, Any] = RESOURCES) -> dict[str, Any]:
    values: dict[str, Any] = resources[name]["Properties"]
    return values


def statements(role: str) -> Iterator[tuple[str, str]]:
    """Actions and resources that a role allows; resources are the ends of their ARNs."""
    for policy in properties(role)["Policies"]:
        for one in policy["PolicyDocument"]["Statement"]:
            assert one["Effect"] == "Allow"
            actions = one["Action"] if isinstance(one["Action"], list) else [one["Action"]]
            listed = one["Resource"] if isinstance(one["Resource"], list) else [one["Resource"]]
            for resource in listed:
                if "Fn::Sub" in resource:
                    arn_end = resource["Fn::Sub"].rpartition(":")[2]
                else:
                    arn_end = ".".join(resource["Fn::GetAtt"])
                yield from ((action, arn_end) for action in actions)


def test_template_has_no_transform() -> None:
    assert set(PUBLIC) <= {
        *("AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules"),
        *("Conditions", "Resources", "Outputs"),
    }
    assert "Transform" not in PUBLIC


def test_yaml_template_refuses_aliases() -> None:
    with pytest.raises(yaml.YAMLError):
        cloudformation.read("a: &x 1\nb: *x\n")


def test_parameters_have_description_and_group() -> None:
    parameters = PUBLIC["Parameters"]
    assert all(one["Description"].endswith(".") for one in parameters.values())
    groups = PUBLIC["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(parameters)


def test_template_of_largest_settings_fits_into_quota(tmp_path: Path) -> None:
    """The quota of a template in a bucket, with the most behaviours, keys and functions."""
    for _ in range(template.MAX_KEYS):
        keyring.create_key_pair(tmp_path, ecdsa=False)[2].unlink()
    prefixes = tuple(f"clients/{number:0>20}" for number in range(30))
    settings = Settings(private_prefixes=prefixes, public_keys=str(tmp_path))
    assert len(template.render(settings, with_lambda_edge=True).encode()) <= template.MAX_BYTES


def test_render_more_behaviors_than_quota_raises(private: Settings) -> None:
    """Each prefix needs two where originals are public: 36 and the three others are 75."""
    for count in (36, 37):
        prefixes = tuple(f"p{number}" for number in range(count))
        settings = replaced(private, private_prefixes=prefixes, sign_originals=False)
        if count == 36:
            template.render(settings)
            continue
        with pytest.raises(
            SettingsError, match="they need 77 cache behaviours, and CloudFront's quota is 75"
        ):
            template.render(settings)


def test_cache_policy_key_is_path_and_min_ttl_is_0() -> None:
    policy = properties("PathOnly")["CachePolicyConfig"]
    assert (policy["MinTTL"], policy["MaxTTL"]) == (0, 31_536_000)
    key = policy["ParametersInCacheKeyAndForwardedToOrigin"]
    assert key["HeadersConfig"] == {"HeaderBehavior": "none"}
    assert key["CookiesConfig"] == {"CookieBehavior": "none"}
    assert key["QueryStringsConfig"] == {"QueryStringBehavior": "none"}
    assert not key["EnableAcceptEncodingGzip"]
    assert not key["EnableAcceptEncodingBrotli"]


def test_origin_group_fails_over_from_s3_on_403_and_404() -> None:
    (group,) = DISTRIBUTION["OriginGroups"]["Items"]
    assert group["FailoverCriteria"]["StatusCodes"]["Items"] == [403, 404]
    assert [one["OriginId"] for one in group["Members"]["Items"]] == ["s3", "resizer"]


def test_origins_require_signed_requests() -> None:
    s3, resizer = DISTRIBUTION["Origins"]
    for origin, name, kind in ((s3, "S3Access", "s3"), (resizer, "LambdaAccess", "lambda")):
        assert origin["OriginAccessControlId"] == {"Fn::GetAtt": [name, "Id"]}
        control = properties(name)["OriginAccessControlConfig"]
        assert control["OriginAccessControlOriginType"] == kind
        assert (control["SigningBehavior"], control["SigningProtocol"]) == ("always", "sigv4")
    assert properties("ResizerUrl")["AuthType"] == "AWS_IAM"
    assert all(properties("Bucket")["PublicAccessBlockConfiguration"].values())


def test_resizer_grants_both_permissions_to_cloudfront() -> None:
    permissions = {properties(name)["Action"]: properties(name) for name in ("AllowUrl", "AllowInvoke")}
    assert set(permissions) == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert permissions["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "AWS_IAM"
    assert permissions["lambda:InvokeFunction"]["InvokedViaFunctionUrl"] is True
    for one in permissions.values():
        assert one["Principal"] == "cloudfront.amazonaws.com"
        assert one["SourceArn"]["Fn::Sub"].endswith(":distribution/${Distribution}")


def test_bucket_policy_allows_reading_renditions_and_listing() -> None:
    allowed = {}
    for one in properties("BucketPolicy")["PolicyDocument"]["Statement"]:
        if one["Effect"] == "Deny":
            assert one["Condition"] == {"Bool": {"aws:SecureTransport": False}}
            continue
        assert one["Principal"] == {"Service": "cloudfront.amazonaws.com"}
        assert set(one["Condition"]) == {"StringEquals"}
        assert set(one["Condition"]["StringEquals"]) == {"AWS:SourceArn"}
        allowed[one["Action"]] = one["Resource"]["Fn::Sub"].rpartition(":")[2]
    assert allowed == {"s3:GetObject": "${BucketName}/resized/*", "s3:ListBucket": "${BucketName}"}


RESIZE = {
    ("s3:GetObject", "${BucketName}/originals/*"),
    ("s3:GetObject", "${BucketName}/resized/*"),
    ("s3:PutObject", "${BucketName}/resized/*"),
    ("s3:ListBucket", "${BucketName}"),
}
TAKE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("ResizerRole", RESIZE | {(one, "ResizerLogs.Arn") for one in LOG}),
        (
            "PrewarmRole",
            RESIZE | {(one, "PrewarmLogs.Arn") for one in LOG} | {(one, "PrewarmQueue.Arn") for one in TAKE},
        ),
        (
            "JanitorRole",
            (RESIZE - {("s3:PutObject", "${BucketName}/resized/*")})
            | {("s3:DeleteObject", "${BucketName}/resized/*"), ("s3:ListBucketVersions", "${BucketName}")}
            | {(f"cloudfront:{one}Invalidation", "distribution/${Distribution}") for one in ("Create", "Get")}
            | {("cloudfront:ListInvalidations", "distribution/${Distribution}")}
            | {(one, "JanitorLogs.Arn") for one in LOG}
            | {(one, "JanitorQueue.Arn") for one in TAKE},
        ),
        (
            "WarmRole",
            {("lambda:InvokeFunction", "PrewarmFunction.Arn")}
            | {(f"s3:{one}Object", "${AccessLogs.Arn}/warm/*") for one in ("Get", "Put")},
        ),
    ],
)
def test_function_roles_allow_least_privilege(role: str, may: set[tuple[str, str]]) -> None:
    assert set(statements(role)) == may


def test_timeouts_are_nested() -> None:
    _, resizer = DISTRIBUTION["Origins"]
    assert resizer["ConnectionAttempts"] == 1  # CloudFront repeats requests that time out
    assert properties("Resizer")["Timeout"] < resizer["CustomOriginConfig"]["OriginReadTimeout"]
    slowest_s = max(properties(name)["Timeout"] for name in ("Resizer", "PrewarmFunction"))
    assert properties("JanitorQueue")["DelaySeconds"] > slowest_s
    for name in ("Prewarm", "Janitor"):
        queue = properties(f"{name}Queue")
        window_s = properties(f"{name}Source").get("MaximumBatchingWindowInSeconds", 0)
        assert queue["VisibilityTimeout"] >= 6 * properties(f"{name}Function")["Timeout"] + window_s
        assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": [f"{name}Failed", "Arn"]}


def test_behaviors_redirect_to_https_and_run_viewer_function(private: Settings) -> None:
    config = distribution(template.render(private))
    for one in (config["DefaultCacheBehavior"], *config["CacheBehaviors"]):
        assert one["ViewerProtocolPolicy"] == "redirect-to-https"
        assert one["AllowedMethods"] == ["GET", "HEAD"]
        assert one["Compress"] is False
        assert one["CachePolicyId"] == {"Ref": "PathOnly"}
        assert "viewer-request" in {each["EventType"] for each in one["FunctionAssociations"]}


def distribution(text: str) -> dict[str, Any]:
    found: dict[str, Any] = properties("Distribution", cloudformation.read(text)["Resources"])[
        "DistributionConfig"
    ]
    return found


def test_private_prefix_has_signed_behavior_before_public_one(private: Settings) -> None:
    behaviors = distribution(template.render(private))["CacheBehaviors"]
    assert [one["PathPattern"] for one in behaviors] == [
        "/resize/*/clients/*",
        "/resize/*/studio/2026/*",
        "/resize/*",
        "/original/*",
    ]
    for one in behaviors:
        is_private = one["PathPattern"] != "/resize/*"
        assert one.get("TrustedKeyGroups") == ([{"Ref": "Signers"}] if is_private else None)
        function = "PrivateViewer" if is_private else "Viewer"
        events = ["viewer-request", "viewer-response"] if is_private else ["viewer-request"]
        assert one["FunctionAssociations"] == [
            {"EventType": event, "FunctionARN": {"Fn::GetAtt": [function, "FunctionARN"]}} for event in events
        ]
        original = "Original" if one["PathPattern"].startswith("/original/") else ""
        headers = "Private" if is_private else "Public"
        assert one["ResponseHeadersPolicyId"] == {"Ref": f"{headers}{original}Headers"}


def test_private_paths_match_their_behavior(private: Settings) -> None:
    patterns = [one["PathPattern"] for one in distribution(template.render(private))["CacheBehaviors"]]
    for path, pattern in {
        "/resize/800x600.webp/clients/smith/1.jpg": "/resize/*/clients/*",
        "/resize/tiny/studio/2026/x/1.jpg": "/resize/*/studio/2026/*",
        "/resize/tiny/open/1.jpg": "/resize/*",
    }.items():
        assert next(one for one in patterns if fnmatch.fnmatchcase(path, one)) == pattern


def test_all_private_has_no_public_behavior(private: Settings) -> None:
    settings = Settings(private_prefixes=("/",), public_keys=private.public_keys)
    behaviors = distribution(template.render(settings))["CacheBehaviors"]
    assert [one["PathPattern"] for one in behaviors] == ["/resize/*", "/original/*"]
    assert all(one["TrustedKeyGroups"] == [{"Ref": "Signers"}] for one in behaviors)


def test_key_group_has_every_public_key(private: Settings) -> None:
    resources = cloudformation.read(template.render(private))["Resources"]
    keys = {name for name, one in resources.items() if one["Type"] == "AWS::CloudFront::PublicKey"}
    listed = properties("Signers", resources)["KeyGroupConfig"]["Items"]
    assert {one["Ref"] for one in listed} == keys
    assert len(keys) == 2
    pems = {properties(name, resources)["PublicKeyConfig"]["EncodedKey"] for name in keys}
    assert pems == {file.read_text() for file in Path(private.public_keys).glob("*.pem")}


def test_template_without_keys_has_no_private_resources() -> None:
    assert not {"Signers", "PrivateViewer", "PrivateHeaders", "PrivateOriginalHeaders"} & set(RESOURCES)
    assert [one["PathPattern"] for one in DISTRIBUTION["CacheBehaviors"]] == ["/resize/*"]


@pytest.mark.parametrize(
    ("prefixes", "sign_originals", "patterns"),
    [
        ((), True, {"/original/*": "PrivateOriginalHeaders"}),
        (PREFIXES, True, {"/original/*": "PrivateOriginalHeaders"}),
        (("/",), False, {"/original/*": "PrivateOriginalHeaders"}),
        ((), False, {"/original/*": "PublicOriginalHeaders"}),
        (
            PREFIXES,
            False,
            {
                "/original/clients/*": "PrivateOriginalHeaders",
                "/original/studio/2026/*": "PrivateOriginalHeaders",
                "/original/*": "PublicOriginalHeaders",
            },
        ),
    ],
)
def test_original_behaviors_follow_settings(
    prefixes: tuple[str, ...],
    *,
    sign_originals: bool,
    patterns: dict[str, str],
    private: Settings,
) -> None:
    settings = Settings(
        private_prefixes=prefixes, sign_originals=sign_originals, public_keys=private.public_keys
    )
    text = template.render(settings)
    resources = cloudformation.read(text)["Resources"]
    found = {
        one["PathPattern"]: one
        for one in distribution(text)["CacheBehaviors"]
        if one["PathPattern"].startswith("/original/")
    }
    assert {name: one["ResponseHeadersPolicyId"]["Ref"] for name, one in found.items()} == patterns
    for one in found.values():
        policy = one["ResponseHeadersPolicyId"]["Ref"]
        assert ("TrustedKeyGroups" in one) == policy.startswith("Private")
        assert [each["EventType"] for each in one["FunctionAssociations"]] == [
            "viewer-request",
            "viewer-response",
        ]
        items = properties(policy, resources)["ResponseHeadersPolicyConfig"]["CustomHeadersConfig"]["Items"]
        assert {"Header": "Content-Disposition", "Value": "attachment", "Override": True} in items
    readable = properties("BucketPolicy", resources)["PolicyDocument"]["Statement"]
    assert "CloudFrontReadsOriginals" in {one["Sid"] for one in readable}


def test_template_without_keys_does_not_let_cloudfront_read_originals() -> None:
    """The default behaviour's function responds 403, and CloudFront has no permission to read originals."""
    assert "CloudFrontReadsOriginals" not in {
        one["Sid"] for one in properties("BucketPolicy")["PolicyDocument"]["Statement"]
    }


@pytest.mark.parametrize("prefix", ["été", "a b", "a*", "a?", "a%20b", 'a"b'])
def test_render_prefix_outside_pattern_characters_raises(prefix: str, private: Settings) -> None:
    settings = Settings(private_prefixes=(prefix,), public_keys=private.public_keys)
    with pytest.raises(SettingsError, match="private_prefixes: CloudFront's path patterns cannot contain"):
        template.render(settings)


def test_render_more_than_five_keys_raises(tmp_path: Path) -> None:
    for _ in range(6):
        _, _, secret = keyring.create_key_pair(tmp_path, ecdsa=True)
        secret.unlink()
    with pytest.raises(SettingsError, match="CloudFront takes 5 keys at once, got 6"):
        template.render(Settings(private_prefixes=("a",), public_keys=str(tmp_path)))


def test_viewer_functions_have_code_of_settings(private: Settings) -> None:
    settings = Settings(sizes=("320x240",), private_prefixes=PREFIXES, public_keys=private.public_keys)
    resources = cloudformation.read(template.render(settings))["Resources"]
    for name, signed in (("Viewer", False), ("PrivateViewer", True)):
        code = properties(name, resources)["FunctionCode"]
        assert code == source.function(settings, signed=signed)


@pytest.mark.parametrize("with_keys", [False, True])
def test_lambda_edge_replaces_viewer_function(*, with_keys: bool, private: Settings) -> None:
    settings = private if with_keys else Settings()
    text = template.render(settings, with_lambda_edge=True)
    resources = cloudformation.read(text)["Resources"]
    for one in distribution(text)["CacheBehaviors"]:
        assert "FunctionAssociations" not in one
        is_private = "TrustedKeyGroups" in one
        events = ["viewer-request", "viewer-response"] if is_private else ["viewer-request"]
        associated = one["LambdaFunctionAssociations"]
        assert [each["EventType"] for each in associated] == events
        version = resources[associated[0]["LambdaFunctionARN"]["Ref"]]
        assert (version["Type"], version["DeletionPolicy"]) == ("AWS::Lambda::Version", "Retain")
        function = properties(version["Properties"]["FunctionName"]["Ref"], resources)
        assert function["Code"]["ZipFile"] == source.lambda_edge(settings, signed=is_private)
    default = distribution(text)["DefaultCacheBehavior"]
    assert default["FunctionAssociations"][0]["FunctionARN"] == {"Fn::GetAtt": ["Viewer", "FunctionARN"]}


def test_lambda_edge_new_code_makes_new_version() -> None:
    names = [
        set(cloudformation.read(template.render(one, with_lambda_edge=True))["Resources"])
        for one in (Settings(), Settings(sizes=("320x240",)))
    ]
    (before,), (after,) = names[0] - names[1], names[1] - names[0]
    assert before.startswith("ViewerEdgeVersion")
    assert after.startswith("ViewerEdgeVersion")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_handler_exists_in_package(name: str) -> None:
    module, _, function = properties(name)["Handler"].rpartition(".")
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    assert f"\ndef {function}(event" in Path(spec.origin).read_text()


def test_janitor_delay_exceeds_resizer_timeout() -> None:
    assert properties("Resizer")["Timeout"] < properties("JanitorQueue")["DelaySeconds"]


def metrics(value: object) -> Iterator[dict[str, Any]]:
    """Every metric of the functions in a part of the template."""
    if isinstance(value, list):
        for one in value:
            yield from metrics(one)
    if isinstance(value, dict):
        if value.get("Namespace") == emf.NAMESPACE:
            yield value
        for one in value.values():
            yield from metrics(one)


def test_alarms_use_metrics_of_functions() -> None:
    found = list(metrics(RESOURCES))
    assert {(one["MetricName"], one["Dimensions"][0]["Value"]["Ref"]) for one in found} == {
        ("RenditionBytes", "Resizer"),
        ("RenditionBytes", "PrewarmFunction"),
        ("StoredButUnreadable", "Resizer"),
    }
    assert {one["MetricName"] for one in found} <= set(emf.UNITS)
    assert {one["Dimensions"][0]["Name"] for one in found} == {"FunctionName"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_variables_load_as_same_settings(name: str) -> None:
    settings = Settings(
        sizes=("a 10x10 webp=70", "2000x2000"),
        keep_copyright=True,
        max_megapixels=150,
        lost_header=True,
    )
    resources = cloudformation.read(template.render(settings))["Resources"]
    variables = properties(name, resources)["Environment"]["Variables"]
    assert variables.pop("GALERLY_STORE") == {"Fn::Sub": "s3://${BucketName}"}
    variables.pop("GALERLY_DISTRIBUTION", None)
    assert {
        one: variables.pop(one) for one in fork_server_process.ENVIRONMENT
    } == fork_server_process.ENVIRONMENT
    assert load.load_settings(environment=variables).settings == settings


def test_function_variables_leave_out_defaults() -> None:
    variables = properties("Resizer")["Environment"]["Variables"]
    assert list(variables) == [*fork_server_process.ENVIRONMENT, "GALERLY_STORE"]


def test_headers_policy_has_headers_of_edge() -> None:
    policy = properties("PublicHeaders")["ResponseHeadersPolicyConfig"]
    security = policy["SecurityHeadersConfig"]
    custom = {one["Header"].lower(): one["Value"] for one in policy["CustomHeadersConfig"]["Items"]}
    sent = {
        "access-control-allow-origin": policy["CorsConfig"]["AccessControlAllowOrigins"]["Items"][0],
        "content-security-policy": security["ContentSecurityPolicy"]["ContentSecurityPolicy"],
        "x-content-type-options": "nosniff" if security["ContentTypeOptions"]["Override"] else "",
        **custom,
    }
    edge = dict(responses.failure(UnknownPath(), "", Settings()).headers) | dict([responses.NEGOTIATED])
    own = {b"content-type", b"content-length", b"cache-control"}
    assert sent == {name.decode(): value.decode() for name, value in edge.items() if name not in own}


def test_headers_policy_leaves_out_disabled_headers() -> None:
    settings = Settings(allow_origin="", timing_allow_origin="", resource_policy="")
    policy = properties("PublicHeaders", cloudformation.read(template.render(settings))["Resources"])
    config = policy["ResponseHeadersPolicyConfig"]
    assert "CorsConfig" not in config
    assert [one["Header"] for one in config["CustomHeadersConfig"]["Items"]] == ["Vary"]


def test_headers_policy_removes_object_metadata() -> None:
    removed = properties("PublicHeaders")["ResponseHeadersPolicyConfig"]["RemoveHeadersConfig"]["Items"]
    names = {one["Header"] for one in removed}
    assert {
        f"x-amz-meta-{name}" for name in ("version", "recipe", "md5", "picture", "key", "cache-tag")
    } <= names
    assert DISTRIBUTION["CacheTagConfig"]["HeaderName"] in names


def test_access_logs_have_no_query_and_cookies() -> None:
    fields = set(properties("AccessLogDelivery")["RecordFields"])
    assert not {"cs-uri-query", "cs(Cookie)"} & fields


def test_alarms_have_documented_thresholds() -> None:
    thresholds = {
        name: one["Properties"]["Threshold"]
        for name, one in RESOURCES.items()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert thresholds["HitRatioAlarm"] == 95
    assert thresholds["OriginLatencyAlarm"] == 2000
    assert thresholds["ErrorRateAlarm"] == 0.1
    assert {"ThrottleAlarm", "UnreadableAlarm", "GrowthAlarm", "PrewarmAlarm", "JanitorAlarm"} <= set(
        thresholds
    )
    assert all(
        one["Properties"]["AlarmActions"] == [{"Ref": "Alarms"}]
        for one in RESOURCES.values()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    )


def test_bucket_is_retained_and_only_renditions_expire() -> None:
    bucket = RESOURCES["Bucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    expiring = {
        one["Prefix"]: one["ExpirationInDays"]
        for one in bucket["Properties"]["LifecycleConfiguration"]["Rules"]
        if "ExpirationInDays" in one
    }
    assert set(expiring) == {"resized/"}


def test_terraform_and_cdk_examples_set_all_required_parameters() -> None:
    guide = Path("docs/aws.md").read_text("utf-8")
    section = guide.partition("## Terraform and CDK")[2].partition("\n## ")[0]
    hcl, typescript = (
        section.partition(f"```{kind}\n")[2].partition("```")[0] for kind in ("hcl", "typescript")
    )
    document = cloudformation.read(template.render(Settings()))
    required = {name for name, one in document["Parameters"].items() if "Default" not in one}
    assert set(re.findall(r"^    (\w+) += ", hcl, re.MULTILINE)) == required
    assert set(re.findall(r"(\w+): \"", typescript.partition("parameters: ")[2])) == required
    assert "Transform" not in document
