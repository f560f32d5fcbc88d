"""Reading the template: parameters, intrinsic functions, policies, and refusal of unmodelled properties."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from galerly_cdn import errors
from galerly_cdn.access import keys
from galerly_cdn.aws.deploy import deployment, template
from galerly_cdn.aws_local import cloudfront_stack
from galerly_cdn.aws_local.cloudformation import limits, properties, yaml_template
from galerly_cdn.aws_local.cloudformation.intrinsic_functions import NOTHING, Resolver
from galerly_cdn.aws_local.cloudformation.limits import TemplateRefused
from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty, model
from galerly_cdn.aws_local.cloudformation.stack import Stack
from galerly_cdn.aws_local.cloudfront import javascript_engines
from galerly_cdn.aws_local.iam.policies import Access, PolicyDocument
from galerly_cdn.errors import SettingsError
from galerly_cdn.settings.table import Settings
from tests.support import local_cloudfront
from tests.support.template_mistakes import REFUSED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

Place = tuple[str | int, ...]
CONFIG = "Distribution/Properties/DistributionConfig"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"OriginShield": "off", "Prewarm": "on", "Janitor": "off", "ReservedConcurrency": "3"},
        {"UploadOrigins": "https://a.example,https://b.example", "AlarmEmail": "a@example.com"},
        {"Firewall": "managed", "BudgetDollars": "50", "AlarmEmail": "a@example.com"},
        {"Domain": "cdn.example.com", "Certificate": f"arn:aws:acm:us-east-1:{'1' * 12}:certificate/1a"},
    ],
)
def test_our_template_is_modelled_with_any_parameters(parameters: dict[str, str]) -> None:
    local_cloudfront.read_plan(local_cloudfront.TEMPLATE, **parameters)


@pytest.mark.parametrize("prefixes", [("clients", "studio/2026"), ("/",)])
def test_our_template_is_modelled_with_private_galleries(prefixes: tuple[str, ...], tmp_path: Path) -> None:
    keys.create_key_pair(tmp_path, ecdsa=True)[2].unlink()
    settings = Settings(private_prefixes=prefixes, public_keys=str(tmp_path))
    local_cloudfront.read_plan(template.render(settings))


def test_the_error_of_an_unmodelled_property_belongs_to_the_local_aws() -> None:
    """`errors`, which all of the CDN shares, knows nothing of the local AWS; the command still reports it."""
    assert not hasattr(errors, "UnmodelledProperty")
    assert issubclass(UnmodelledProperty, errors.CommandError)
    assert errors.by_code()["unmodelled-property"] is UnmodelledProperty


def test_lambda_at_edge_is_refused() -> None:
    with pytest.raises(UnmodelledProperty, match="Version"):
        local_cloudfront.read_plan(template.render(Settings(), with_lambda_edge=True))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (f"{CONFIG}/Staging", True, "Distribution: DistributionConfig: .*`Staging`"),
        (f"{CONFIG}/AnycastIpListId", "x", "Distribution: DistributionConfig: .*`AnycastIpListId`"),
        (f"{CONFIG}/Enabled", False, "Distribution: DistributionConfig: .*Enabled"),
        (
            f"{CONFIG}/Origins/0/OriginPath",
            "/x",
            "DistributionConfig.Origins.0.: .*OriginPath",
        ),
        (f"{CONFIG}/DefaultCacheBehavior/SmoothStreaming", True, "DefaultCacheBehavior: .*SmoothStreaming"),
        (f"{CONFIG}/DefaultCacheBehavior/Compress", True, "DefaultCacheBehavior: .*compression"),
        (f"{CONFIG}/CacheBehaviors/0/AllowedMethods", ["GET", "HEAD", "PUT"], "AllowedMethods.*PUT"),
        (
            f"{CONFIG}/CacheBehaviors/0/TargetOriginId",
            "nowhere",
            "TargetOriginId: there is no origin",
        ),
        (f"{CONFIG}/CacheBehaviors/0/CachePolicyId", "658327ea", "no resource of the template has this ID"),
        (f"{CONFIG}/CacheBehaviors/0/TrustedSigners", ["self"], "TrustedSigners"),
        (f"{CONFIG}/CustomErrorResponses/0/ResponsePagePath", "/e.html", "ResponsePagePath"),
        (f"{CONFIG}/DefaultCacheBehavior/CachedMethods", ["GET"], "CachedMethods"),
        (
            f"{CONFIG}/DefaultCacheBehavior/OriginRequestPolicyId",
            "b689b0a8",
            "no resource of the template has",
        ),
        (
            f"{CONFIG}/DefaultCacheBehavior/FunctionAssociations/0/FunctionARN",
            "arn:other",
            "viewer-request: there is no function arn:other",
        ),
        (f"{CONFIG}/Origins/0/DomainName", "b.s3.amazonaws.com", "none has the domain b.s3.amazonaws.com"),
        (
            f"{CONFIG}/Origins/0/S3OriginConfig",
            None,
            "Origins.s3: is neither an S3 bucket nor a Lambda function URL",
        ),
        (
            f"{CONFIG}/Origins/0/OriginAccessControlId",
            "E1",
            "OriginAccessControlId: there is no such origin access control",
        ),
        (f"{CONFIG}/OriginGroups/Items/0/Members/Items/0/OriginId", "nowhere", "there is no origin nowhere"),
        ("Distribution", None, "Distribution"),
        ("ResizerUrl/Properties/TargetFunctionArn", "arn:other", "there is no function arn:other"),
        ("AccessLogsPolicy/Properties/Bucket", {"Ref": "Bucket"}, "a bucket has one policy"),
        ("PathOnly/Properties/CachePolicyConfig/Other", 1, "PathOnly: CachePolicyConfig: .*Other"),
        (
            "PathOnly/Properties/CachePolicyConfig/ParametersInCacheKeyAndForwardedToOrigin/CookiesConfig",
            {"CookieBehavior": "all"},
            "CookiesConfig.CookieBehavior: ",
        ),
        ("S3Access/Properties/OriginAccessControlConfig/SigningBehavior", "no-override", "SigningBehavior"),
        ("Viewer/Properties/FunctionConfig/KeyValueStoreAssociations", [], "KeyValueStoreAssociations"),
        ("Viewer/Properties/FunctionConfig/Runtime", "cloudfront-js-1.0", "FunctionConfig.Runtime"),
        ("Viewer/Properties/FunctionCode", "/".ljust(10_241), "10241 bytes, 10240 are allowed"),
        ("Viewer/Properties/AutoPublish", False, "not published"),
        (
            "PublicHeaders/Properties/ResponseHeadersPolicyConfig/ServerTimingHeadersConfig",
            {},
            "ServerTiming",
        ),
        ("ResizerUrl/Properties/AuthType", "NONE", "ResizerUrl: AuthType"),
        ("ResizerUrl/Properties/InvokeMode", "RESPONSE_STREAM", "ResizerUrl: InvokeMode"),
        ("AllowUrl/Properties/PrincipalOrgID", "o-1", "AllowUrl: .*PrincipalOrgID"),
        ("Resizer/Properties/VpcConfig", {}, "Resizer: .*VpcConfig"),
        ("Bucket/Properties/WebsiteConfiguration", {}, "Bucket: .*WebsiteConfiguration"),
        (
            "Bucket/Properties/BucketEncryption/ServerSideEncryptionConfiguration/0/ServerSideEncryptionByDefault",
            {"SSEAlgorithm": "aws:kms"},
            "SSEAlgorithm",
        ),
        ("BucketPolicy/Properties/PolicyDocument/Statement/0/Condition", {"IpAddress": {}}, "IpAddress"),
        (
            "BucketPolicy/Properties/PolicyDocument/Statement/0/Condition",
            {"StringEquals": {"s3:prefix": "x"}},
            "s3:prefix",
        ),
        ("BucketPolicy/Properties/PolicyDocument/Statement/0/Principal", {"AWS": "*"}, "AWS"),
        ("BucketPolicy/Properties/PolicyDocument/Statement/0/NotAction", "s3:*", "NotAction"),
        ("AccessLogDelivery/Properties/RecordFields", ["cs-bytes"], "cs-bytes"),
        ("Viewer/CreationPolicy", {}, "Viewer: CreationPolicy"),
        ("Other", {"Type": "AWS::EC2::Instance"}, "Other: Type: AWS::EC2::Instance is not modelled"),
        ("ResizerUrl/Properties/TargetFunctionArn", {"Fn::ImportValue": "x"}, "Fn::ImportValue"),
        ("ResizerUrl/Properties/TargetFunctionArn", {"Fn::GetAtt": ["Resizer", "Qualifier"]}, "Qualifier"),
        ("ResizerUrl/Properties/TargetFunctionArn", {"Ref": "Nobody"}, "Nobody: there is no such"),
    ],
)
def test_an_unmodelled_property_is_refused_with_its_path(path: str, value: object, message: str) -> None:
    with pytest.raises(UnmodelledProperty, match=message):
        local_cloudfront.read_plan(local_cloudfront.changed_template(local_cloudfront.set_value(path, value)))


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_aws_refuses_is_refused(change: local_cloudfront.Change, message: str) -> None:
    with pytest.raises(TemplateRefused, match=message):
        local_cloudfront.read_plan(local_cloudfront.changed_template(change))


def test_public_keys_that_share_a_name_are_refused(full: dict[str, Any]) -> None:
    """A key file that is replaced under its name is another key, made before the old one is deleted."""
    document = copy.deepcopy(full)
    (name,) = [
        name for name, one in document["Resources"].items() if one["Type"] == "AWS::CloudFront::PublicKey"
    ]
    config = document["Resources"][name]["Properties"]["PublicKeyConfig"]
    config["Name"] = {"Fn::Sub": f"${{AWS::StackName}}-{config['Comment']}"}
    with pytest.raises(TemplateRefused, match="stays when the key changes"):
        local_cloudfront.read_plan(json.dumps(document))


def test_import_of_a_bucket_needs_its_literal_name(full: dict[str, Any]) -> None:
    with pytest.raises(TemplateRefused, match=r"^Bucket: BucketName: .*; AccessLogs: BucketName: "):
        limits.check_import(full)
    limits.check_import(yaml_template.read(template.with_literal_names(local_cloudfront.TEMPLATE, "photos")))


@pytest.mark.parametrize("edge", [False, True])
def test_names_of_the_longest_stack_are_allowed(*, edge: bool, tmp_path: Path) -> None:
    keys.create_key_pair(tmp_path, ecdsa=True)[2].unlink()
    text = template.render(
        Settings(private_prefixes=("clients",), public_keys=str(tmp_path)), with_lambda_edge=edge
    )
    document = yaml_template.read(text)
    for one in [name for name, one in document["Resources"].items() if one["Type"] == "AWS::Lambda::Version"]:
        document["Resources"][one]["Type"] = "AWS::SNS::Topic"  # the local AWS has no Lambda@Edge

    def check(stack: str) -> None:
        bucket = f"{stack}-{'1' * 12}"
        values = {**local_cloudfront.REQUIRED_PARAMETERS, "BucketName": bucket, "Firewall": "rate"}
        limits.check(Stack(document, values, stack))

    check("s" * deployment.MAX_STACK_NAME)
    with pytest.raises((SettingsError, TemplateRefused)):
        check("s" * (deployment.MAX_STACK_NAME + 1))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Our template with every optional part."""
    folder = tmp_path_factory.mktemp("keys")
    keys.create_key_pair(folder, ecdsa=True)[2].unlink()
    settings = Settings(private_prefixes=("clients",), public_keys=str(folder))
    return yaml_template.read(template.render(settings))


def places(node: Any, at: Place, ignored: Collection[str]) -> Iterator[Place]:  # noqa: ANN401 - any JSON
    """The paths of all objects that are neither ignored nor an intrinsic function."""
    if isinstance(node, list):
        for number, one in enumerate(node):
            yield from places(one, (*at, number), ignored)
    if not isinstance(node, dict) or any(name == "Ref" or name.startswith("Fn::") for name in node):
        return
    if ".".join(part for part in at if isinstance(part, str)) in {*ignored, "Environment.Variables"}:
        return
    yield at
    for name, one in node.items():
        yield from places(one, (*at, name), ignored)


@pytest.mark.parametrize("type_name", sorted(properties.MODELLED))
def test_an_additional_property_in_any_object_is_refused(type_name: str, full: dict[str, Any]) -> None:
    ignored = properties.IGNORED.get(type_name, {})
    named = [name for name, one in full["Resources"].items() if one["Type"] == type_name]
    assert named
    for name in named:
        for place in places(full["Resources"][name]["Properties"], (), ignored):
            document = copy.deepcopy(full)
            node = document["Resources"][name]["Properties"]
            for part in place:
                node = node[part]
            node["Surprise"] = {"Surprise": True}
            with pytest.raises(UnmodelledProperty) as refused:
                cloudfront_stack.read_plan(
                    Stack(document, {**local_cloudfront.REQUIRED_PARAMETERS, "Prewarm": "on"})
                )
            assert refused.value.resource == name


def test_an_unknown_attribute_of_a_parameter_is_refused() -> None:
    document = yaml_template.read(local_cloudfront.TEMPLATE)
    document["Parameters"]["Domain"]["NoEcho"] = True
    with pytest.raises(UnmodelledProperty, match=r"Parameters: Domain: .*NoEcho"):
        local_cloudfront.read_plan(json.dumps(document))


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(UnmodelledProperty, match="Transform"):
        local_cloudfront.read_plan(
            json.dumps(
                {**yaml_template.read(local_cloudfront.TEMPLATE), "Transform": "AWS::Serverless-2016-10-31"}
            )
        )


def test_every_ignored_property_has_a_reason() -> None:
    reasons = [
        reason
        for ignored in properties.IGNORED.values()
        for reason in ([ignored] if isinstance(ignored, str) else ignored.values())
    ]
    assert all(len(reason) > 5 for reason in reasons)


def test_every_ignored_path_is_in_our_template() -> None:
    """An ignored path that the template does not use could hide a later mistake."""
    used = set()
    for one in yaml_template.read(local_cloudfront.TEMPLATE)["Resources"].values():
        used |= {(one["Type"], path) for path in paths(one.get("Properties", {}), "")} | {(one["Type"], "")}
    keys = {"AWS::CloudFront::KeyGroup", "AWS::CloudFront::PublicKey"}
    for type_name, ignored in properties.IGNORED.items():
        for path in [""] if isinstance(ignored, str) else ignored:
            assert (type_name, path) in used or type_name in keys


def paths(node: Any, at: str) -> set[str]:  # noqa: ANN401 - any JSON
    if isinstance(node, list):
        return {path for one in node for path in paths(one, at)}
    if not isinstance(node, dict):
        return set()
    below = {name: f"{at}.{name}" if at else name for name in node}
    return {*below.values()}.union(*(paths(one, below[name]) for name, one in node.items()))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"BucketName": "NOT"}, "BucketName: 'NOT' does not match"),
        ({"Memory": "1"}, "Memory: 1 is less than 1024"),
        ({"Memory": "9999"}, "Memory: 9999 is more than 3008"),
        ({"Memory": "much"}, "Memory: 'much' is not a number"),
        ({"PriceClass": "all"}, "PriceClass: 'all' is not one of"),
        ({"Nonsense": "1"}, "Nonsense: the template has no such parameter"),
        ({"Domain": "cdn.example.com"}, "Domain needs a Certificate"),
        ({"BudgetDollars": "50"}, "BudgetDollars needs an AlarmEmail"),
        ({"BudgetDollars": "-1"}, "BudgetDollars: -1 is less than 0"),
        ({"Firewall": "on"}, "Firewall: 'on' is not one of off, rate, managed"),
    ],
)
def test_invalid_parameters_raise_settings_error(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        local_cloudfront.read_plan(**parameters)


def test_a_missing_parameter_raises_settings_error() -> None:
    with pytest.raises(SettingsError, match="BucketName: Name of the bucket"):
        Stack(yaml_template.read(local_cloudfront.TEMPLATE), {})


REFERENCES = {"Text": "a", "List": ["a", "b"], "None": NOTHING, "Thing": "id", "Thing.Arn": "arn"}


def resolver() -> Resolver:
    conditions = {
        "Yes": {"Fn::Equals": [{"Ref": "Text"}, "a"]},
        "No": {"Fn::Not": [{"Condition": "Yes"}]},
        "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
        "Either": {"Fn::Or": [{"Condition": "Yes"}, {"Condition": "No"}]},
    }
    return Resolver(
        lambda name, attribute: REFERENCES[f"{name}.{attribute}" if attribute else name],
        conditions,
        {"Map": {"a": {"x": 1}}},
        "Resource",
    )


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ({"Ref": "Text"}, "a"),
        ({"Fn::GetAtt": ["Thing", "Arn"]}, "arn"),
        ({"Fn::Sub": "x-${Text}-${Thing.Arn}-${!Text}"}, "x-a-arn-${Text}"),
        ({"Fn::Sub": ["${own}${Text}", {"own": {"Ref": "Thing"}}]}, "ida"),
        ({"Fn::Join": ["-", {"Ref": "List"}]}, "a-b"),
        ({"Fn::Split": ["/", "a/b/c"]}, ["a", "b", "c"]),
        ({"Fn::Select": ["1", {"Fn::Split": ["/", "a/b"]}]}, "b"),
        ({"Fn::If": ["Yes", 1, 2]}, 1),
        ({"Fn::If": ["No", 1, 2]}, 2),
        ({"Fn::If": ["Both", 1, 2]}, 2),
        ({"Fn::If": ["Either", 1, 2]}, 1),
        ({"Fn::FindInMap": ["Map", {"Ref": "Text"}, "x"]}, 1),
        ({"a": {"Ref": "None"}, "b": [{"Ref": "None"}, 1]}, {"b": [1]}),
        ({"Condition": {"StringEquals": {}}}, {"Condition": {"StringEquals": {}}}),
    ],
)
def test_resolve_evaluates_intrinsic_functions(node: object, value: object) -> None:
    assert resolver().resolve(node) == value


@pytest.mark.parametrize("condition", [{"Fn::Xor": []}, {"Condition": "Unknown"}])
def test_an_unknown_condition_is_refused(condition: dict[str, Any]) -> None:
    with pytest.raises(UnmodelledProperty):
        resolver().holds(condition)


ALLOW = {"Effect": "Allow", "Principal": {"Service": "a.example"}, "Action": "s3:Get*", "Resource": "b/*"}
ACCESS = Access(
    service="a.example", action="s3:GetObject", resource="b/k/1", context={"aws:sourcearn": "arn:x/1"}
)


def document(*statements: dict[str, Any]) -> PolicyDocument:
    policy = {"Version": "2012-10-17", "Statement": list(statements)}
    return model(PolicyDocument, "", "Policy", policy, lambda node: node)


@pytest.mark.parametrize(
    ("statements", "is_allowed"),
    [
        ([], False),
        ([ALLOW], True),
        ([ALLOW | {"Principal": "*"}], True),
        ([ALLOW | {"Principal": {"Service": ["x.example", "a.example"]}}], True),
        ([ALLOW | {"Principal": {"Service": "x.example"}}], False),
        ([ALLOW | {"Action": "s3:PutObject"}], False),
        ([ALLOW | {"Action": ["s3:PutObject", "S3:GETOBJECT"]}], True),
        ([ALLOW | {"Resource": "B/*"}], False),
        ([ALLOW | {"Resource": ["x", "b/?/1"]}], True),
        ([ALLOW | {"Condition": {"StringEquals": {"AWS:SourceArn": "arn:x/1"}}}], True),
        ([ALLOW | {"Condition": {"StringEquals": {"AWS:SourceArn": "arn:x/*"}}}], False),
        ([ALLOW | {"Condition": {"ArnEquals": {"aws:SourceArn": ["arn:y", "arn:x/*"]}}}], True),
        ([ALLOW | {"Condition": {"ArnLike": {"aws:SourceArn": "arn:y/*"}}}], False),
        ([ALLOW | {"Condition": {"StringEquals": {"aws:SourceAccount": "1"}}}], False),
        ([ALLOW, ALLOW | {"Effect": "Deny"}], False),
        ([ALLOW, ALLOW | {"Effect": "Deny", "Action": "s3:PutObject"}], True),
        ([ALLOW, ALLOW | {"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": False}}}], True),
    ],
)
def test_allows_evaluates_a_policy_as_aws_does(statements: list[dict[str, Any]], *, is_allowed: bool) -> None:
    assert document(*statements).allows(ACCESS) is is_allowed


def test_find_engine_without_a_program_raises_settings_error() -> None:
    with pytest.raises(SettingsError, match="viewer function"):
        javascript_engines.find_engine({}, ("no-such-program",))
