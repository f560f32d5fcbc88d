"""The CloudFront API: boto3's invalidations take effect, and invalid requests get CloudFront's errors."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import boto3
import pytest
from botocore.exceptions import ClientError

from galerly_cdn.aws.deploy import invalidation
from galerly_cdn.aws.functions.resizer import CACHE_TAG
from galerly_cdn.aws_local.cloudfront.invalidation_api import InvalidationApi
from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.origin_exchange import OriginRequest, OriginResponse
from galerly_cdn.errors import NotInvalidated
from galerly_cdn.http.urls import cache_tags, gallery_tag
from galerly_cdn.settings.table import Settings
from tests.support import local_cloudfront
from tests.support.s3_servers import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.aws_local.cloudfront.invalidation_api import IsAllowed
    from tests.support.local_cloudfront import Viewer
    from tests.support.s3_servers import Objects

KEYS = ("g/a b.jpg", "g/é+.jpg")
PATHS = ("/resize/800x600/g/a%20b.jpg", "/resize/800x600/g/%C3%A9%2B.jpg")
DISTRIBUTION = "EDISTRIBUTION"
ARN = f"arn:aws:cloudfront::123456789012:distribution/{DISTRIBUTION}"


def rendition(request: OriginRequest) -> OriginResponse:
    """A rendition with the resizer's cache tags."""
    key = KEYS[0] if ".a-20b" in request.raw_path else KEYS[1]
    headers = {
        "content-type": "image/jpeg",
        "cache-control": local_cloudfront.IMMUTABLE,
        CACHE_TAG.decode(): cache_tags(key),
    }
    return OriginResponse(200, headers, b"made")


def anything(_action: str, _resource: str) -> bool:
    return True


class ApiClient:
    """A client of the API of a local CloudFront, which has two renditions in its cache."""

    def __init__(self, viewer: Viewer, patch: pytest.MonkeyPatch) -> None:
        self.viewer = viewer
        self._patch = patch
        plan = viewer.cloudfront.plan
        self.api = InvalidationApi(
            viewer.cloudfront.cache, plan.distribution, local_cloudfront.IDENTITY, viewer.clock
        )

    async def results(self) -> list[str]:
        """The result type of a request for each rendition."""
        responses = [await self.viewer.request(path) for path in PATHS]
        return [response.headers["x-cache"].split()[0] for response in responses]

    async def invalidate(
        self, distribution: str, *keys: str, is_allowed: IsAllowed = anything, deadline_s: int = 0
    ) -> Any:  # noqa: ANN401 - as it is
        """Our invalidation by the API's address."""
        async with self._listening(is_allowed):
            return await asyncio.to_thread(invalidation.invalidate, distribution, keys, deadline_s=deadline_s)

    async def call(self, method: str, is_allowed: IsAllowed = anything, **named: object) -> Any:  # noqa: ANN401 - boto3's
        """The result of a method of boto3's client, by the API's address."""
        async with self._listening(is_allowed):
            boto = boto3.client("cloudfront", region_name="us-east-1")
            return await asyncio.to_thread(getattr(boto, method), **named)

    @asynccontextmanager
    async def _listening(self, is_allowed: IsAllowed) -> AsyncIterator[None]:
        async with api_server.listen(self.api.endpoint(is_allowed)) as address:
            self._patch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", address)
            self._patch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep the credentials
            yield

    async def create(self, *items: str, reference: str = "once", distribution: str = DISTRIBUTION) -> Any:  # noqa: ANN401 - boto3's
        paths = {"Quantity": len(items), "Items": list(items)}
        batch = {"Paths": paths, "CallerReference": reference}
        return await self.call("create_invalidation", DistributionId=distribution, InvalidationBatch=batch)


@pytest.fixture
async def client(versitygw_bucket: Objects, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiClient]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(invalidation, "_POLL_S", 1)
    async with local_cloudfront.start(versitygw_bucket) as viewer:
        viewer.resizer.make_response = rendition
        client = ApiClient(viewer, monkeypatch)
        assert await client.results() == ["Miss", "Miss"]
        assert await client.results() == ["Hit", "Hit"]
        yield client


pytestmark = [pytest.mark.server("versitygw"), pytest.mark.server("node")]


async def test_invalidate_by_tag_removes_one_photograph(client: ApiClient) -> None:
    done = await client.invalidate(DISTRIBUTION, KEYS[0], deadline_s=2)
    assert (done.by, done.is_completed, len(done.ids)) == ("tag", True, 1)
    assert await client.results() == ["Miss", "Hit"]


async def test_invalidate_by_gallery_tag_removes_its_photographs(client: ApiClient) -> None:
    await client.create(f"#{gallery_tag('h')}", reference="other")
    assert await client.results() == ["Hit", "Hit"]
    await client.create(f"#{gallery_tag('g')}")
    assert await client.results() == ["Miss", "Miss"]


async def test_get_invalidation_returns_a_completed_invalidation(client: ApiClient) -> None:
    first = (await client.create("/resized/*"))["Invalidation"]
    assert first["Status"] == "InProgress"
    second = (await client.call("get_invalidation", DistributionId=DISTRIBUTION, Id=first["Id"]))[
        "Invalidation"
    ]
    assert second["Status"] == "Completed"
    assert second["InvalidationBatch"]["Paths"] == {"Quantity": 1, "Items": ["/resized/*"]}
    assert second["CreateTime"].timestamp() == client.viewer.clock.now_s
    assert await client.results() == ["Miss", "Miss"]


async def test_our_paths_of_a_photograph_are_cache_keys(client: ApiClient) -> None:
    """If tags are refused, our code invalidates these paths instead."""
    paths = list(invalidation._paths(KEYS[:1], Settings().all_targets))
    await client.create(*paths)
    assert await client.results() == ["Miss", "Hit"]


async def test_the_same_batch_and_reference_are_the_same_invalidation(client: ApiClient) -> None:
    first = await client.create("/a")
    assert (await client.create("/a"))["Invalidation"]["Id"] == first["Invalidation"]["Id"]
    assert (await client.create("/a", reference="2"))["Invalidation"]["Id"] != first["Invalidation"]["Id"]
    assert await code(client.create("/b")) == "InvalidationBatchAlreadyExists"


async def code(call: Any) -> str:  # noqa: ANN401 - a coroutine
    with pytest.raises(ClientError) as refused:
        await call
    return str(refused.value.response["Error"]["Code"])


@pytest.mark.parametrize("items", [("/a*b",), ("#",), ("#a*",), ("/é",), ("/a b",), ("/a", ""), ("/a\n",)])
async def test_an_invalid_path_or_tag_is_invalid_argument(client: ApiClient, items: tuple[str, ...]) -> None:
    assert await code(client.create(*items)) == "InvalidArgument"
    assert await client.results() == ["Hit", "Hit"]


async def test_another_distribution_is_no_such_distribution(client: ApiClient) -> None:
    assert await code(client.create("/*", distribution="EOTHER")) == "NoSuchDistribution"
    with pytest.raises(NotInvalidated, match="NoSuchDistribution"):
        await client.invalidate("EOTHER", *KEYS)
    assert await client.results() == ["Hit", "Hit"]


async def test_an_unknown_invalidation_is_no_such_invalidation(client: ApiClient) -> None:
    second = client.call("get_invalidation", DistributionId=DISTRIBUTION, Id="I1")
    assert await code(second) == "NoSuchInvalidation"


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ACCESS_KEY_ID", "other"), ("AWS_SECRET_ACCESS_KEY", "guessed")]
)
async def test_a_wrong_signature_changes_nothing(
    client: ApiClient, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert await code(client.create("/*")) == "SignatureDoesNotMatch"
    assert await client.results() == ["Hit", "Hit"]


async def test_a_caller_without_permission_is_denied(client: ApiClient) -> None:
    checked = []

    def may(action: str, resource: str) -> bool:
        checked.append((action, resource))
        return False

    refused = client.call("get_invalidation", DistributionId=DISTRIBUTION, Id="I1", is_allowed=may)
    assert await code(refused) == "AccessDenied"
    with pytest.raises(NotInvalidated, match="AccessDenied"):
        await client.invalidate(DISTRIBUTION, *KEYS, is_allowed=may)
    assert checked == [("cloudfront:GetInvalidation", ARN), ("cloudfront:CreateInvalidation", ARN)]
    assert await client.results() == ["Hit", "Hit"]


async def test_an_unmodelled_operation_is_refused_with_its_path(client: ApiClient) -> None:
    with pytest.raises(ClientError, match=r"GET /2020-05-31/distribution/EDISTRIBUTION is not modelled"):
        await client.call("get_distribution", Id=DISTRIBUTION)


BATCH = "<InvalidationBatch><Paths><Quantity>{}</Quantity><Items>{}</Items></Paths>{}</InvalidationBatch>"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<InvalidationBatch>", "MalformedXML"),
        (
            BATCH.format(2, "<Path>/a</Path>", "<CallerReference>1</CallerReference>"),
            "InconsistentQuantities",
        ),
        (BATCH.format(0, "", "<CallerReference>1</CallerReference>"), "InvalidArgument"),
        (BATCH.format(1, "<Path>/a</Path>", ""), "InvalidArgument"),
    ],
)
async def test_an_invalid_batch_is_refused(client: ApiClient, body: str, code: str) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    path = f"/2020-05-31/distribution/{DISTRIBUTION}/invalidation"
    draft = AWSRequest("POST", f"http://localhost{path}", headers={"Host": "localhost"}, data=body.encode())
    identity = Credentials(local_cloudfront.IDENTITY.access_key, local_cloudfront.IDENTITY.secret_key)
    SigV4Auth(identity, "cloudfront", "us-east-1").add_auth(draft)
    headers = {name.lower(): value for name, value in draft.headers.items()}
    endpoint = client.api.endpoint()
    request = OriginRequest("POST", "http", "localhost", path, "", headers, body.encode())
    response = await endpoint.respond(request)
    assert ET.fromstring(response.body).findtext("{*}Error/{*}Code") == code
