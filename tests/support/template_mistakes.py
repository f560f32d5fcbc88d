"""What can be wrong in a template, and which step of which scenario notices it first.

A mistake changes the template's resources, or what is written into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from galerly_cdn.aws.viewer import source
from galerly_cdn.settings.table import Settings
from tests.support import local_cloudfront
from tests.support.local_cloudfront import found, put

if TYPE_CHECKING:
    from tests.support.local_cloudfront import Change


def without(path: str, *removed: str) -> Change:
    """Takes out of the list at `path` what these are, or are the Sids, headers or events of."""

    def change(resources: dict[str, Any]) -> None:
        listed = found(resources, path)
        left = [one for one in listed if not {*removed} & {str(one), *_names(one)}]
        assert len(left) == len(listed) - len(removed)
        listed[:] = left

    return change


def _names(one: object) -> set[str]:
    names = ("Sid", "Header", "EventType")
    return {str(one.get(name)) for name in names} if isinstance(one, dict) else set()


def swapped(path: str) -> Change:
    """Puts the first of the list at `path` behind the second."""

    def change(resources: dict[str, Any]) -> None:
        listed = found(resources, path)
        listed[:2] = listed[1], listed[0]

    return change


def replaced(path: str, old: str, new: str) -> Change:
    """Writes `new` for `old` in the text at `path`."""

    def change(resources: dict[str, Any]) -> None:
        text = found(resources, path)
        assert old in text
        put(path, text.replace(old, new))(resources)

    return change


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(resources: dict[str, Any]) -> None:
        for one in changes:
            one(resources)

    return change


CONFIG = "Distribution/Properties/DistributionConfig"
BEHAVIORS = f"{CONFIG}/CacheBehaviors"
_S3, _RESIZER = f"{CONFIG}/Origins/0", f"{CONFIG}/Origins/1"
_ERRORS = f"{CONFIG}/CustomErrorResponses"
_GROUP = f"{CONFIG}/OriginGroups/Items/0"
FAILOVER = f"{_GROUP}/FailoverCriteria/StatusCodes/Items"
_CACHE = "PathOnly/Properties/CachePolicyConfig"
_KEY = f"{_CACHE}/ParametersInCacheKeyAndForwardedToOrigin"
MARKS = "Marks/Properties/OriginRequestPolicyConfig/HeadersConfig/Headers"
_PUBLIC = "PublicHeaders/Properties/ResponseHeadersPolicyConfig"
_DOWNLOADS = "PrivateOriginalHeaders/Properties/ResponseHeadersPolicyConfig"
POLICY = "BucketPolicy/Properties/PolicyDocument/Statement"
_RESIZES = "ResizerRole/Properties/Policies/0/PolicyDocument/Statement"
_CLEANS = "JanitorRole/Properties/Policies/0/PolicyDocument/Statement"
_VARIABLES = "Resizer/Properties/Environment/Variables"
_ELSEWHERE = "arn:aws:cloudfront::123456789012:distribution/EANOTHER"
_IMMUTABLE = {"Header": "Cache-Control", "Value": local_cloudfront.YEAR, "Override": True}

MISTAKES: dict[str, dict[tuple[int, str], Change]] = {
    "the first request renders, the second is a hit with the same strong ETag": {
        (1, "the permission lambda:InvokeFunctionUrl is missing"): put("AllowUrl", None),
        (1, "the permission lambda:InvokeFunction is missing"): put("AllowInvoke", None),
        (1, "lambda:InvokeFunction is not for calls by way of the URL"): put(
            "AllowInvoke/Properties/InvokedViaFunctionUrl", None
        ),
        (1, "the function lets in another distribution"): put("AllowUrl/Properties/SourceArn", _ELSEWHERE),
        (1, "requests to the function are not signed"): put(f"{_RESIZER}/OriginAccessControlId", ""),
        (1, "requests to the function are signed for S3"): put(
            f"{_RESIZER}/OriginAccessControlId", {"Fn::GetAtt": ["S3Access", "Id"]}
        ),
        (1, "what S3 has not is no reason to ask the function"): without(FAILOVER, "404"),
        (1, "pictures come from S3 alone"): put(f"{BEHAVIORS}/0/TargetOriginId", "s3"),
        (1, "no viewer function maps pictures"): put(f"{BEHAVIORS}/0/FunctionAssociations", []),
        (1, "the function keeps what it makes in another bucket"): put(
            f"{_VARIABLES}/GALERLY_STORE", "s3://another-bucket"
        ),
        (1, "the function has no time"): put("Resizer/Properties/Timeout", 0),
        (1, "the function has no memory to decode in"): put("Resizer/Properties/MemorySize", 256),
        (1, "the function may not read originals"): without(_RESIZES, "ReadOriginalsAndRenditions"),
        (1, "the function may not see that something is missing"): without(_RESIZES, "MissingIs404"),
        (1, "the function may not store"): without(_RESIZES, "StoreRenditions"),
        (4, "requests to S3 are not signed"): put(f"{_S3}/OriginAccessControlId", ""),
        (4, "CloudFront may not read renditions"): without(POLICY, "CloudFrontReadsRenditions"),
        (4, "the bucket lets in another distribution"): put(
            f"{POLICY}/0/Condition/StringEquals/AWS:SourceArn", _ELSEWHERE
        ),
        (4, "the function is asked before S3"): swapped(f"{_GROUP}/Members/Items"),
    },
    "success is public and immutable, and says how it may be embedded": {
        (1, "caches are not told of Accept"): without(f"{_PUBLIC}/CustomHeadersConfig/Items", "Vary"),
        (3, "browsers may guess what a picture is"): put(
            f"{_PUBLIC}/SecurityHeadersConfig/ContentTypeOptions", None
        ),
        (3, "other sites may not read pictures"): put(f"{_PUBLIC}/CorsConfig", None),
        (3, "what S3 keeps beside a rendition is told"): without(
            f"{_PUBLIC}/RemoveHeadersConfig/Items", "x-amz-meta-version"
        ),
    },
    "Accept chooses AVIF before WebP, and each format is stored once": {
        (3, "Accept is part of the cache's key"): put(
            f"{_KEY}/HeadersConfig", {"HeaderBehavior": "whitelist", "Headers": ["Accept"]}
        ),
    },
    "nothing but the key decides: other headers and queries change nothing": {
        (2, "the query is part of the cache's key, and the function leaves it"): both(
            put(f"{_KEY}/QueryStringsConfig/QueryStringBehavior", "all"),
            replaced("Viewer/Properties/FunctionCode", "request.querystring = {};\n", ""),
        ),
    },
    "a replaced original shows on the next request": {
        (3, "no header has the cache tag"): put(f"{CONFIG}/CacheTagConfig", None),
        (3, "the cache tag is looked for in another header"): put(
            f"{CONFIG}/CacheTagConfig/HeaderName", "cache-tag"
        ),
        (3, "the bucket tells nobody of changes"): put("Bucket/Properties/NotificationConfiguration", None),
        (3, "the janitor is told of other keys"): put(
            "JanitorRule/Properties/EventPattern/detail/object/key", [{"prefix": "resized/"}]
        ),
        (3, "no event may enter the janitor's queue"): put("JanitorQueuePolicy", None),
        (3, "the janitor may not delete"): without(_CLEANS, "DeleteRenditions"),
        (3, "the janitor may not invalidate"): without(_CLEANS, "Invalidate"),
    },
    "anything else is 404, and other methods 405": {
        (1, "no viewer function answers for other addresses"): put(
            f"{CONFIG}/DefaultCacheBehavior/FunctionAssociations", []
        ),
        (1, "a headers policy makes errors immutable"): put(
            f"{_PUBLIC}/CustomHeadersConfig/Items/0", _IMMUTABLE
        ),
    },
    "a changed recipe renders again": {
        (3, "the viewer function offers what the resizer does not"): put(
            "Viewer/Properties/FunctionCode", source.function(Settings(), signed=False)
        ),
        (4, "the resizer refuses what the viewer function offers"): put(f"{_VARIABLES}/GALERLY_SIZES", None),
    },
    "a picture of several megabytes is shown": {
        (2, "what says no-store is kept"): put(f"{_CACHE}/MinTTL", 1),
    },
    "a picture of several megabytes in a private gallery is shown": {
        (1, "a 503 is kept for minutes"): put(f"{_ERRORS}/4/ErrorCachingMinTTL", 300),
        (1, "the resizer is not told what is private"): without(MARKS, "x-galerly-private"),
    },
    "a private gallery's pictures are for signed requests alone, hits and 304 and HEAD as well": {
        (1, "private pictures are asked for without signatures"): put(
            f"{BEHAVIORS}/0/TrustedKeyGroups", None
        ),
        (2, "every cache may keep private pictures"): without(
            f"{BEHAVIORS}/0/FunctionAssociations", "viewer-response"
        ),
        (2, "behind a signature the viewer function knows of none"): replaced(
            "PrivateViewer/Properties/FunctionCode", "var SIGNED = true", "var SIGNED = false"
        ),
        (2, "private pictures have the headers of public ones"): both(
            put("PrivateHeaders", {"Type": "AWS::CloudFront::ResponseHeadersPolicy"}),
            lambda resources: resources["PrivateHeaders"].update(
                Properties=resources["PublicHeaders"]["Properties"]
            ),
        ),
    },
    "beside a private folder the others stay public": {
        (3, "a private folder stands behind the public ones"): swapped(BEHAVIORS),
    },
    "an original is handed out signed: whole, untouched, under its own name": {
        (1, "CloudFront may not read originals"): without(POLICY, "CloudFrontReadsOriginals"),
        (1, "every cache may keep private originals"): without(
            f"{BEHAVIORS}/1/FunctionAssociations", "viewer-response"
        ),
        (1, "an original is shown where it could do harm"): without(
            f"{_DOWNLOADS}/CustomHeadersConfig/Items", "Content-Disposition"
        ),
    },
    "without a signature no original is handed out, nor told to be there; its pictures stay public": {
        (1, "originals are asked for without signatures"): put(f"{BEHAVIORS}/1/TrustedKeyGroups", None),
    },
    "a download is continued where it broke off, and starts over when the original was replaced": {
        (7, "originals are kept for a day"): put(f"{_CACHE}/DefaultTTL", 86400),
    },
    "an upload is served at once, and never before": {
        (3, "a 404 is kept for minutes"): put(f"{_ERRORS}/1/ErrorCachingMinTTL", 300),
    },
    "an original over the limit is refused at upload, and not rendered if somebody else put it": {
        (3, "the resizer takes originals of any size"): put(f"{_VARIABLES}/GALERLY_MAX_ORIGINAL_BYTES", None),
    },
    "what is warmed is a hit in every size and format; warming again makes what is lacking": {
        (3, "the resizer has a recipe of its own"): put(f"{_VARIABLES}/GALERLY_KEEP_COPYRIGHT", "true"),
    },
}
"""By the name of the scenario: the step that is disappointed first, and what is wrong."""
