"""CloudFront's own API: what boto3 asks to be forgotten is forgotten; what CloudFront refuses is refused."""

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
from galerly_cdn.http.urls import cache_tag
from galerly_cdn.settings.table import Settings
from tests.support import local_cloudfront
from tests.support.s3_servers import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from galerly_cdn.aws_local.cloudfront.invalidation_api import May
    from tests.support.local_cloudfront import Viewer
    from tests.support.s3_servers import Objects

KEYS = ("g/a b.jpg", "g/é+.jpg")
PATHS = ("/resize/800x600/g/a%20b.jpg", "/resize/800x600/g/%C3%A9%2B.jpg")
DISTRIBUTION = "EDISTRIBUTION"
ARN = f"arn:aws:cloudfront::123456789012:distribution/{DISTRIBUTION}"


def made(request: OriginRequest) -> OriginResponse:
    """A picture, tagged as the resizer tags it."""
    key = KEYS[0] if "a%20b" in request.raw_path else KEYS[1]
    headers = {
        "content-type": "image/jpeg",
        "cache-control": local_cloudfront.YEAR,
        CACHE_TAG.decode(): cache_tag(key),
    }
    return OriginResponse(200, headers, b"made")


def anything(_action: str, _resource: str) -> bool:
    return True


class Asking:
    """A local CloudFront with two pictures in its cache, and its API as boto3 asks it."""

    def __init__(self, viewer: Viewer, patch: pytest.MonkeyPatch) -> None:
        self.viewer = viewer
        self._patch = patch
        plan = viewer.cloud.plan
        self.control = InvalidationApi(
            viewer.cloud.cache, plan.distribution, local_cloudfront.IDENTITY, viewer.clock
        )

    async def results(self) -> list[str]:
        """`Hit` or `Miss` of each picture."""
        answers = [await self.viewer.ask(path) for path in PATHS]
        return [one.headers["x-cache"].split()[0] for one in answers]

    async def invalidate(
        self, distribution: str, *keys: str, may: May = anything, deadline_s: int = 0
    ) -> Any:  # noqa: ANN401 - as it is
        """Our own side, by the API's address."""
        async with self._listening(may):
            return await asyncio.to_thread(invalidation.invalidate, distribution, keys, deadline_s=deadline_s)

    async def call(self, method: str, may: May = anything, **named: object) -> Any:  # noqa: ANN401 - boto3's
        """A method of boto3's client, by the API's address."""
        async with self._listening(may):
            client = boto3.client("cloudfront", region_name="us-east-1")
            return await asyncio.to_thread(getattr(client, method), **named)

    @asynccontextmanager
    async def _listening(self, may: May) -> AsyncIterator[None]:
        async with api_server.listen(self.control.door(may)) as address:
            self._patch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", address)
            self._patch.setattr(boto3, "DEFAULT_SESSION", None)  # it would remember credentials
            yield

    async def create(self, *items: str, reference: str = "once", of: str = DISTRIBUTION) -> Any:  # noqa: ANN401 - boto3's
        paths = {"Quantity": len(items), "Items": list(items)}
        batch = {"Paths": paths, "CallerReference": reference}
        return await self.call("create_invalidation", DistributionId=of, InvalidationBatch=batch)


@pytest.fixture
async def asking(versitygw_bucket: Objects, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(invalidation, "_POLL_S", 1)
    async with local_cloudfront.cloud(versitygw_bucket) as viewer:
        viewer.resizer.answers = made
        asking = Asking(viewer, monkeypatch)
        assert await asking.results() == ["Miss", "Miss"]
        assert await asking.results() == ["Hit", "Hit"]
        yield asking


pytestmark = [pytest.mark.server("versitygw"), pytest.mark.server("node")]


async def test_our_own_side_has_a_photograph_forgotten_by_its_tag(asking: Asking) -> None:
    done = await asking.invalidate(DISTRIBUTION, KEYS[0], deadline_s=2)
    assert (done.by, done.is_completed, len(done.ids)) == ("tag", True, 1)
    assert await asking.results() == ["Miss", "Hit"]


async def test_an_invalidation_can_be_asked_after(asking: Asking) -> None:
    first = (await asking.create("/resized/*"))["Invalidation"]
    assert first["Status"] == "InProgress"
    found = (await asking.call("get_invalidation", DistributionId=DISTRIBUTION, Id=first["Id"]))[
        "Invalidation"
    ]
    assert found["Status"] == "Completed"
    assert found["InvalidationBatch"]["Paths"] == {"Quantity": 1, "Items": ["/resized/*"]}
    assert found["CreateTime"].timestamp() == asking.viewer.clock.now_s
    assert await asking.results() == ["Miss", "Miss"]


async def test_the_paths_that_our_own_side_knows_are_those_of_the_cache(asking: Asking) -> None:
    """Where tags are refused it sends these: each must be the key of something that was cached."""
    paths = list(invalidation._paths(KEYS[:1], Settings().all_targets))
    await asking.create(*paths)
    assert await asking.results() == ["Miss", "Hit"]


async def test_the_same_reference_is_the_same_invalidation(asking: Asking) -> None:
    first = await asking.create("/a")
    assert (await asking.create("/a"))["Invalidation"]["Id"] == first["Invalidation"]["Id"]
    assert (await asking.create("/a", reference="2"))["Invalidation"]["Id"] != first["Invalidation"]["Id"]
    assert await code(asking.create("/b")) == "InvalidationBatchAlreadyExists"


async def code(call: Any) -> str:  # noqa: ANN401 - a coroutine
    with pytest.raises(ClientError) as refused:
        await call
    return str(refused.value.response["Error"]["Code"])


@pytest.mark.parametrize("items", [("/a*b",), ("#",), ("#a*",), ("/é",), ("/a b",), ("/a", ""), ("/a\n",)])
async def test_what_names_no_path_and_no_tag_is_an_invalid_argument(
    asking: Asking, items: tuple[str, ...]
) -> None:
    assert await code(asking.create(*items)) == "InvalidArgument"
    assert await asking.results() == ["Hit", "Hit"]


async def test_another_distribution_is_not_there(asking: Asking) -> None:
    assert await code(asking.create("/*", of="EOTHER")) == "NoSuchDistribution"
    with pytest.raises(NotInvalidated, match="NoSuchDistribution"):
        await asking.invalidate("EOTHER", *KEYS)
    assert await asking.results() == ["Hit", "Hit"]


async def test_an_invalidation_that_nobody_made_is_not_there(asking: Asking) -> None:
    found = asking.call("get_invalidation", DistributionId=DISTRIBUTION, Id="I1")
    assert await code(found) == "NoSuchInvalidation"


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ACCESS_KEY_ID", "other"), ("AWS_SECRET_ACCESS_KEY", "guessed")]
)
async def test_who_cannot_sign_changes_nothing(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert await code(asking.create("/*")) == "SignatureDoesNotMatch"
    assert await asking.results() == ["Hit", "Hit"]


async def test_who_may_not_is_denied_by_action_and_distribution(asking: Asking) -> None:
    seen = []

    def may(action: str, resource: str) -> bool:
        seen.append((action, resource))
        return False

    refused = asking.call("get_invalidation", DistributionId=DISTRIBUTION, Id="I1", may=may)
    assert await code(refused) == "AccessDenied"
    with pytest.raises(NotInvalidated, match="AccessDenied"):
        await asking.invalidate(DISTRIBUTION, *KEYS, may=may)
    assert seen == [("cloudfront:GetInvalidation", ARN), ("cloudfront:CreateInvalidation", ARN)]
    assert await asking.results() == ["Hit", "Hit"]


async def test_what_is_not_modelled_is_refused_and_named(asking: Asking) -> None:
    with pytest.raises(ClientError, match=r"GET /2020-05-31/distribution/EDISTRIBUTION is not modelled"):
        await asking.call("get_distribution", Id=DISTRIBUTION)


BATCH = "<InvalidationBatch><Paths><Quantity>{}</Quantity><Items>{}</Items></Paths>{}</InvalidationBatch>"


@pytest.mark.parametrize(
    ("body", "told"),
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
async def test_what_is_no_batch_is_refused(asking: Asking, body: str, told: str) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    path = f"/2020-05-31/distribution/{DISTRIBUTION}/invalidation"
    draft = AWSRequest("POST", f"http://localhost{path}", headers={"Host": "localhost"}, data=body.encode())
    identity = Credentials(local_cloudfront.IDENTITY.access_key, local_cloudfront.IDENTITY.secret_key)
    SigV4Auth(identity, "cloudfront", "us-east-1").add_auth(draft)
    headers = {name.lower(): value for name, value in draft.headers.items()}
    door = asking.control.door()
    sent = OriginRequest("POST", "http", "localhost", path, "", headers, body.encode())
    answer = await door.respond(sent)
    assert ET.fromstring(answer.body).findtext("{*}Error/{*}Code") == told
