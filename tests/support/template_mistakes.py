"""Lists mistakes in the template, and for each the scenario and the first step that fails because of it.

A mistake is a change of the template's resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.viewer import source
from galerly_cdn.aws_local.cloudformation import limits
from galerly_cdn.settings.table import Settings
from tests.support import local_cloudfront
from tests.support.local_cloudfront import set_value, value_at

if TYPE_CHECKING:
    from tests.support.local_cloudfront import Change


def remove(path: str, *removed: str) -> Change:
    """Removes elements of the list at `path`, named by value, Sid, header or event type."""

    def change(resources: dict[str, Any]) -> None:
        elements = value_at(resources, path)
        remaining = [element for element in elements if not {*removed} & {str(element), *_names(element)}]
        assert len(remaining) == len(elements) - len(removed)
        elements[:] = remaining

    return change


def _names(element: object) -> set[str]:
    names = ("Sid", "Header", "EventType")
    return {str(element.get(name)) for name in names} if isinstance(element, dict) else set()


def swap_first_two(path: str) -> Change:
    """Swaps the first two elements of the list at `path`."""

    def change(resources: dict[str, Any]) -> None:
        elements = value_at(resources, path)
        elements[:2] = elements[1], elements[0]

    return change


def replace_text(path: str, old: str, new: str) -> Change:
    """Replaces `old` by `new` in the string at `path`."""

    def change(resources: dict[str, Any]) -> None:
        text = value_at(resources, path)
        assert old in text
        set_value(path, text.replace(old, new))(resources)

    return change


def add(path: str, *added: object) -> Change:
    """Adds elements to the list at `path`."""

    def change(resources: dict[str, Any]) -> None:
        value_at(resources, path).extend(added)

    return change


def combine(*changes: Change) -> Change:
    """Makes several changes, one after the other."""

    def change(resources: dict[str, Any]) -> None:
        for part in changes:
            part(resources)

    return change


CONFIG = "Distribution/Properties/DistributionConfig"
BEHAVIORS = f"{CONFIG}/CacheBehaviors"
_S3, _RESIZER = f"{CONFIG}/Origins/0", f"{CONFIG}/Origins/1"
_ERRORS = f"{CONFIG}/CustomErrorResponses"
_GROUP = f"{CONFIG}/OriginGroups/Items/0"
FAILOVER = f"{_GROUP}/FailoverCriteria/StatusCodes/Items"
_CACHE = "PathOnly/Properties/CachePolicyConfig"
_KEY = f"{_CACHE}/ParametersInCacheKeyAndForwardedToOrigin"
FORWARDED_HEADERS = "Marks/Properties/OriginRequestPolicyConfig/HeadersConfig/Headers"
_PUBLIC = "PublicHeaders/Properties/ResponseHeadersPolicyConfig"
_DOWNLOADS = "PrivateOriginalHeaders/Properties/ResponseHeadersPolicyConfig"
POLICY = "BucketPolicy/Properties/PolicyDocument/Statement"
_RESIZER_STATEMENTS = "ResizerRole/Properties/Policies/0/PolicyDocument/Statement"
_JANITOR_STATEMENTS = "JanitorRole/Properties/Policies/0/PolicyDocument/Statement"
_VARIABLES = "Resizer/Properties/Environment/Variables"
_OTHER_DISTRIBUTION = "arn:aws:cloudfront::123456789012:distribution/EANOTHER"
_IMMUTABLE = {"Header": "Cache-Control", "Value": local_cloudfront.IMMUTABLE, "Override": True}


def no_failover(status: str) -> Change:
    """Removes a status on which the origin group fails over."""
    return combine(remove(FAILOVER, status), set_value(f"{_GROUP}/FailoverCriteria/StatusCodes/Quantity", 1))


MISTAKES: dict[str, dict[tuple[int, str], Change]] = {
    "the first request renders, the second is a hit with the same strong ETag": {
        (1, "the permission lambda:InvokeFunctionUrl is missing"): set_value("AllowUrl", None),
        (1, "the permission lambda:InvokeFunction is missing"): set_value("AllowInvoke", None),
        (1, "lambda:InvokeFunction is not granted for calls by the URL"): set_value(
            "AllowInvoke/Properties/InvokedViaFunctionUrl", None
        ),
        (1, "the function allows another distribution"): set_value(
            "AllowUrl/Properties/SourceArn", _OTHER_DISTRIBUTION
        ),
        (1, "requests to the function are not signed"): set_value(f"{_RESIZER}/OriginAccessControlId", ""),
        (1, "requests to the function are signed for S3"): set_value(
            f"{_RESIZER}/OriginAccessControlId", {"Fn::GetAtt": ["S3Access", "Id"]}
        ),
        (1, "a 404 of S3 does not fail over to the function"): no_failover("404"),
        (1, "the key is not forwarded to the resizer"): remove(FORWARDED_HEADERS, "x-galerly-key"),
        (1, "renditions come from S3 only"): set_value(f"{BEHAVIORS}/0/TargetOriginId", "s3"),
        (1, "no viewer function maps the paths of renditions"): set_value(
            f"{BEHAVIORS}/0/FunctionAssociations", []
        ),
        (1, "the function stores renditions in another bucket"): set_value(
            f"{_VARIABLES}/GALERLY_STORE", "s3://another-bucket"
        ),
        (1, "the function's time-out is 0 s"): set_value("Resizer/Properties/Timeout", 0),
        (1, "the function has too little memory to decode"): set_value("Resizer/Properties/MemorySize", 256),
        (1, "the function may not read originals"): remove(_RESIZER_STATEMENTS, "ReadOriginalsAndRenditions"),
        (1, "the function may not see that an object is missing"): remove(
            _RESIZER_STATEMENTS, "MissingIs404"
        ),
        (1, "the function may not store renditions"): remove(_RESIZER_STATEMENTS, "StoreRenditions"),
        (4, "requests to S3 are not signed"): set_value(f"{_S3}/OriginAccessControlId", ""),
        (4, "CloudFront may not read renditions"): remove(POLICY, "CloudFrontReadsRenditions"),
        (4, "the bucket allows another distribution"): set_value(
            f"{POLICY}/0/Condition/StringEquals/AWS:SourceArn", _OTHER_DISTRIBUTION
        ),
        (4, "the function is the primary origin, and S3 the secondary"): swap_first_two(
            f"{_GROUP}/Members/Items"
        ),
    },
    "a rendition has public, immutable caching and the headers for embedding": {
        (1, "Vary: Accept is missing"): remove(f"{_PUBLIC}/CustomHeadersConfig/Items", "Vary"),
        (3, "browsers may sniff the media type"): set_value(
            f"{_PUBLIC}/SecurityHeadersConfig/ContentTypeOptions", None
        ),
        (3, "CORS headers are missing"): set_value(f"{_PUBLIC}/CorsConfig", None),
        (3, "a rendition's metadata in S3 reaches viewers"): remove(
            f"{_PUBLIC}/RemoveHeadersConfig/Items", "x-amz-meta-version"
        ),
    },
    "Accept chooses AVIF before WebP, and each format is stored once": {
        (3, "Accept is part of the cache key"): set_value(
            f"{_KEY}/HeadersConfig", {"HeaderBehavior": "whitelist", "Headers": ["Accept"]}
        ),
    },
    "other headers and the query do not change the response": {
        (2, "the query is part of the cache key, and the viewer function keeps it"): combine(
            set_value(f"{_KEY}/QueryStringsConfig/QueryStringBehavior", "all"),
            replace_text("Viewer/Properties/FunctionCode", "request.querystring = {};\n", ""),
        ),
    },
    "a replaced original is served from the next request": {
        (3, "no cache tag header is configured"): set_value(f"{CONFIG}/CacheTagConfig", None),
        (3, "the cache tag header has another name"): set_value(
            f"{CONFIG}/CacheTagConfig/HeaderName", "cache-tag"
        ),
        (3, "the bucket sends no events"): set_value("Bucket/Properties/NotificationConfiguration", None),
        (3, "the janitor's rule matches other keys"): set_value(
            "JanitorRule/Properties/EventPattern/detail/object/key", [{"prefix": "resized/"}]
        ),
        (3, "the janitor's queue accepts no events"): set_value("JanitorQueuePolicy", None),
        (3, "the janitor may not delete renditions"): remove(_JANITOR_STATEMENTS, "DeleteRenditions"),
        (3, "the janitor may not invalidate"): remove(_JANITOR_STATEMENTS, "Invalidate"),
    },
    "an unknown path is 404, another method is 405": {
        (1, "no viewer function responds to other paths"): set_value(
            f"{CONFIG}/DefaultCacheBehavior/FunctionAssociations", []
        ),
        (1, "a response headers policy makes errors immutable"): set_value(
            f"{_PUBLIC}/CustomHeadersConfig/Items/0", _IMMUTABLE
        ),
    },
    "the setting `sizes` defines sizes, formats and qualities": {
        (3, "the viewer function allows a size that the resizer refuses"): set_value(
            "Viewer/Properties/FunctionCode", source.function(Settings(), signed=False)
        ),
        (4, "the resizer refuses a size that the viewer function allows"): set_value(
            f"{_VARIABLES}/GALERLY_SIZES", None
        ),
    },
    "equivalent percent-encodings are one resource": {
        (1, "the paths of renditions have escapes, for which the signature fails"): replace_text(
            "Viewer/Properties/FunctionCode", "folder + stored(spelled)", "folder + spelled"
        ),
        (1, "the viewer function spells a key otherwise than the resizer"): replace_text(
            "Viewer/Properties/FunctionCode", "swap(one, '-', '%2D')", "one.toLowerCase()"
        ),
    },
    "a rendition of several megabytes is served": {
        (2, "a response with no-store is cached"): combine(
            set_value(f"{_CACHE}/MinTTL", 1), set_value(f"{_CACHE}/DefaultTTL", 1)
        ),
    },
    "a rendition of several megabytes in a private gallery is served": {
        (1, "a 503 is cached for 5 minutes"): set_value(f"{_ERRORS}/4/ErrorCachingMinTTL", 300),
        (1, "the header of private requests is not forwarded to the resizer"): remove(
            FORWARDED_HEADERS, "x-galerly-private"
        ),
    },
    "a private gallery's renditions need a signature, also for hits, 304 and HEAD": {
        (1, "private renditions need no signature"): set_value(f"{BEHAVIORS}/0/TrustedKeyGroups", None),
        (2, "private renditions may be cached publicly"): remove(
            f"{BEHAVIORS}/0/FunctionAssociations", "viewer-response"
        ),
        (2, "the viewer function of private galleries ignores that requests are signed"): replace_text(
            "PrivateViewer/Properties/FunctionCode", "var SIGNED = true", "var SIGNED = false"
        ),
        (2, "private renditions have the headers policy of public ones"): combine(
            set_value("PrivateHeaders", {"Type": "AWS::CloudFront::ResponseHeadersPolicy"}),
            lambda resources: resources["PrivateHeaders"].update(
                Properties=resources["PublicHeaders"]["Properties"]
            ),
        ),
    },
    "other folders stay public next to a private one": {
        (3, "the behaviour of a private folder is after that of public ones"): swap_first_two(BEHAVIORS),
    },
    "a signed request gets the unchanged original, under its own name": {
        (1, "CloudFront may not read originals"): remove(POLICY, "CloudFrontReadsOriginals"),
        (1, "private originals may be cached publicly"): remove(
            f"{BEHAVIORS}/1/FunctionAssociations", "viewer-response"
        ),
        (6, "the resizer is asked for missing originals"): set_value(
            f"{BEHAVIORS}/1/TargetOriginId", "s3-else-resizer"
        ),
        (1, "Content-Disposition of originals is missing"): remove(
            f"{_DOWNLOADS}/CustomHeadersConfig/Items", "Content-Disposition"
        ),
    },
    "an original needs a signature, and its renditions stay public": {
        (1, "originals need no signature"): set_value(f"{BEHAVIORS}/1/TrustedKeyGroups", None),
    },
    "a download is resumed, and restarted if the original was replaced": {
        (7, "originals are cached for a day"): set_value(f"{_CACHE}/DefaultTTL", 86400),
    },
    "an upload is served as soon as it is complete": {
        (3, "a 404 is cached for 5 minutes"): set_value(f"{_ERRORS}/1/ErrorCachingMinTTL", 300),
    },
    "an original over the size limit is refused at upload, and not rendered": {
        (3, "the resizer accepts originals of any size"): set_value(
            f"{_VARIABLES}/GALERLY_MAX_ORIGINAL_BYTES", None
        ),
    },
}
"""Changes by the scenario's name, then by the number of the first step that fails and the mistake."""

_REMOVED = f"{_PUBLIC}/RemoveHeadersConfig/Items"
_CUSTOM = f"{_PUBLIC}/CustomHeadersConfig/Items"


def _behaviors(count: int) -> Change:
    """Repeats the first behaviour with other path patterns, until there are `count`."""

    def change(resources: dict[str, Any]) -> None:
        behaviors = value_at(resources, BEHAVIORS)
        first = behaviors[0]
        behaviors[:0] = [{**first, "PathPattern": f"/{number}/*"} for number in range(count - len(behaviors))]

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    **{
        f"a headers policy removes {name}": (add(_REMOVED, {"Header": name}), f"CloudFront reserves {name}")
        for name in ("x-amzn-RequestId", "X-Cache", "Via", "x-amz-cf-pop")
    },
    "a headers policy removes eleven headers": (
        add(_REMOVED, {"Header": "x-amz-replication-status"}),
        f"RemoveHeadersConfig has {limits.MAX_REMOVED_HEADERS + 1} headers, CloudFront allows 10",
    ),
    "a headers policy sets a reserved header": (
        add(_CUSTOM, {"Header": "X-Accel-Buffering", "Value": "no", "Override": True}),
        "CustomHeadersConfig: CloudFront reserves X-Accel-Buffering",
    ),
    "a headers policy sets eleven headers": (
        add(_CUSTOM, *({"Header": f"x-{number}", "Value": "1", "Override": True} for number in range(9))),
        "CustomHeadersConfig has 12 headers",
    ),
    "there are 76 behaviours": (_behaviors(75), "76 cache behaviours, CloudFront allows 75"),
    "two behaviours have one path pattern": (
        lambda resources: value_at(resources, BEHAVIORS).append(value_at(resources, BEHAVIORS)[0]),
        "two behaviours have the path pattern /resize/",
    ),
    "a behaviour runs two functions for one event": (
        lambda resources: value_at(resources, f"{BEHAVIORS}/0/FunctionAssociations").append(
            value_at(resources, f"{BEHAVIORS}/0/FunctionAssociations/0")
        ),
        "two functions for viewer-request",
    ),
    "the origin group fails over on a status that cannot be chosen": (
        combine(add(FAILOVER, 405), set_value(f"{_GROUP}/FailoverCriteria/StatusCodes/Quantity", 3)),
        "405 is not allowed",
    ),
    "the origin group miscounts its statuses": (
        add(FAILOVER, 500),
        "Quantity of StatusCodes is 2, there are 3",
    ),
    "an error that CloudFront does not cache has a lifetime": (
        add(_ERRORS, {"ErrorCode": 429, "ErrorCachingMinTTL": 1}),
        "CustomErrorResponses.ErrorCode: 429 is not allowed",
    ),
    "CloudFront asks an origin four times": (
        set_value(f"{_S3}/ConnectionAttempts", 4),
        "ConnectionAttempts: 4 is not between 1 and 3",
    ),
    "CloudFront waits for an origin longer than its quota": (
        set_value(f"{_RESIZER}/CustomOriginConfig/OriginReadTimeout", 180),
        "OriginReadTimeout: 180 is not between 1 and 120",
    ),
    "the least lifetime is above the default one": (
        set_value(f"{_CACHE}/MinTTL", 1),
        "MinTTL, DefaultTTL and MaxTTL are not in this order",
    ),
    "the name of a function is too long": (
        set_value("Viewer/Properties/Name", {"Fn::Sub": "${AWS::StackName}-" + "a" * 60}),
        "Viewer: Name: 'local-a{60}' has 66 characters, 64 are allowed",
    ),
    "the name of the logs' bucket is too long": (
        set_value("AccessLogs/Properties/BucketName", {"Fn::Sub": "${BucketName}-" + "logs" * 15}),
        "BucketName: .* has 70 characters, 63 are allowed",
    ),
    "a function has a variable that Lambda reserves": (
        set_value(f"{_VARIABLES}/AWS_REGION", "eu-west-1"),
        "Lambda reserves the environment variable AWS_REGION",
    ),
    "the variables of a function are too long": (
        set_value(f"{_VARIABLES}/GALERLY_SIZES", "9" * 4096),
        "Lambda allows 4096",
    ),
    "a queue shows a message again before its function has ended": (
        set_value("JanitorQueue/Properties/VisibilityTimeout", 30),
        "visibility timeout, 30 s, is below the function's timeout, 150 s",
    ),
    "a queue delays its messages too long": (
        set_value("JanitorQueue/Properties/DelaySeconds", 901),
        "DelaySeconds: 901 is not between 0 and 900",
    ),
    "the policies of a role are too long": (
        add(_RESIZER_STATEMENTS, {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "a" * 10_240}),
        "IAM allows 10240",
    ),
    "access logs are delivered without a prefix": (
        set_value(
            "AccessLogDestination/Properties/DestinationResourceArn", {"Fn::GetAtt": ["AccessLogs", "Arn"]}
        ),
        "DestinationResourceArn has no prefix",
    ),
    "an alarm evaluates more than a week": (
        set_value("HitRatioAlarm/Properties/EvaluationPeriods", 169),
        "it evaluates 608400 s, CloudWatch allows 604800 s",
    ),
    "an alarm has two results": (
        set_value("HitRatioAlarm/Properties/Metrics/1/ReturnData", True),
        "one of its metrics has to return data",
    ),
}
"""Changes that AWS refuses when the stack is created, and a pattern of the local AWS's message."""
