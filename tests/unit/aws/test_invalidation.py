"""Tests of CloudFront invalidations: by tag, by path, from commands and from a running CDN."""

from __future__ import annotations

import asyncio
import builtins
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.aws.deploy import http_viewer, invalidation, invalidation_batches
from galerly_cdn.aws.deploy.invalidation_batches import InvalidationBatches
from galerly_cdn.aws.errors import AwsMissing
from galerly_cdn.cli import invalidation as cli_invalidation
from galerly_cdn.errors import NotInvalidated
from galerly_cdn.http.urls import cache_tag, gallery_tag
from galerly_cdn.library import no_invalidation
from galerly_cdn.model import Size, Target
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.fake_aws import ANY, FakeAws, aws

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["aws"]

DISTRIBUTION = "E2EXAMPLE0000"
KEY = "wedding/été & +.jpg"
SPELLED = "wedding/.-C3-A9t-C3-A9-20-26-20-2B.jpg"
ESCAPED = "wedding/%C3%A9t%C3%A9%20%26%20%2B.jpg"


@pytest.fixture(autouse=True)
def _without_environment_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GALERLY_WORKERS", "1")
    monkeypatch.setattr(invalidation, "_POLL_S", 1)


def batch_parameters(items: Sequence[str]) -> dict[str, Any]:
    paths = {"Quantity": len(items), "Items": list(items)}
    return {
        "DistributionId": DISTRIBUTION,
        "InvalidationBatch": {"Paths": paths, "CallerReference": ANY},
    }


def invalidation_response(
    items: Sequence[str], status: str = "InProgress", invalidation_id: str = "I1"
) -> dict[str, Any]:
    batch = {"Paths": {"Quantity": len(items), "Items": list(items)}, "CallerReference": "x"}
    created = {"Id": invalidation_id, "Status": status, "CreateTime": 0, "InvalidationBatch": batch}
    return {"Invalidation": created}


def tags(*keys: str) -> list[str]:
    return [f"#{cache_tag(key)}" for key in keys]


def expect_completed(aws: FakeAws, keys: Sequence[str], invalidation_id: str = "I1") -> None:
    """CloudFront accepts the invalidation and completes it at once."""
    items = tags(*keys)
    aws.expect(
        "cloudfront",
        "create_invalidation",
        batch_parameters(items),
        **invalidation_response(items, "InProgress", invalidation_id),
    )
    aws.expect(
        "cloudfront",
        "get_invalidation",
        {"DistributionId": DISTRIBUTION, "Id": invalidation_id},
        **invalidation_response(items, "Completed", invalidation_id),
    )


def test_invalidate_without_deadline_sends_tag_and_does_not_wait(aws: FakeAws) -> None:
    aws.expect(
        "cloudfront", "create_invalidation", batch_parameters(tags(KEY)), **invalidation_response(tags(KEY))
    )
    done = invalidation.invalidate(DISTRIBUTION, [KEY])
    assert done == invalidation.Invalidated(DISTRIBUTION, 1, "tag", ("I1",), is_completed=False)


def photographs(gallery: str, count: int) -> list[str]:
    return [f"{gallery}/{number}.jpg" for number in range(count)]


@pytest.mark.parametrize(
    ("keys", "sent", "expected"),
    [
        (photographs("g", 100), {}, [cache_tag(key) for key in photographs("g", 100)]),
        (photographs("g", 101), {}, [gallery_tag("g")]),
        (photographs("g", 100) * 2, {}, [cache_tag(key) for key in photographs("g", 100)]),
        (photographs("g", 1), {"g": 100, "h": 500}, [gallery_tag("g")]),
        (photographs("g", 1), {"g": 99}, [cache_tag("g/0.jpg")]),
        (
            ["h/a.jpg", *photographs("g", 101), "top.jpg"],
            {},
            [
                cache_tag("h/a.jpg"),
                gallery_tag("g"),
                cache_tag("top.jpg"),
            ],
        ),
        ([*photographs("g", 101), "g/sub/a.jpg"], {}, [gallery_tag("g"), cache_tag("g/sub/a.jpg")]),
        ([f"{number}.jpg" for number in range(101)], {}, [gallery_tag("")]),
    ],
    ids=str,
)
def test_tags_of_many_photographs_of_a_gallery_are_one(
    keys: list[str], sent: dict[str, int], expected: list[str]
) -> None:
    assert invalidation.tags(keys, sent) == expected


def test_invalidate_many_galleries_sends_batches_of_1000(aws: FakeAws) -> None:
    keys = [f"{number}/a.jpg" for number in range(1001)]
    expect_completed(aws, keys[:1000], "I1")
    expect_completed(aws, keys[1000:], "I2")
    done = invalidation.invalidate(DISTRIBUTION, keys, deadline_s=1)
    assert (done.ids, done.keys, done.is_completed) == (("I1", "I2"), 1001, True)


def test_invalidate_refused_tags_falls_back_to_paths(aws: FakeAws) -> None:
    targets = [Target(Size(800, 600)), Target(Size(800, 600), Settings().size_rules[0].negotiable[0])]
    paths = [f"/resized/800x600/{SPELLED}", f"/resized/800x600.avif/{SPELLED}", f"/originals/{ESCAPED}"]
    aws.expect_error(
        "cloudfront", "create_invalidation", "InvalidArgument", parameters=batch_parameters(tags(KEY))
    )
    aws.expect("cloudfront", "create_invalidation", batch_parameters(paths), **invalidation_response(paths))
    assert invalidation.invalidate(DISTRIBUTION, [KEY], targets).by == "path"


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchDistribution", "InvalidArgument"])
def test_invalidate_refused_raises_cloudfront_message(aws: FakeAws, code: str) -> None:
    aws.expect_error("cloudfront", "create_invalidation", code, "not you")
    with pytest.raises(NotInvalidated) as refused:
        invalidation.invalidate(DISTRIBUTION, [KEY])
    assert refused.value.detail == f"CreateInvalidation: {code}: not you"


def test_invalidate_incomplete_at_deadline_raises(aws: FakeAws) -> None:
    aws.expect(
        "cloudfront", "create_invalidation", batch_parameters(tags(KEY)), **invalidation_response(tags(KEY))
    )
    aws.expect("cloudfront", "get_invalidation", None, **invalidation_response(tags(KEY)))
    with pytest.raises(NotInvalidated, match="Max attempts exceeded"):
        invalidation.invalidate(DISTRIBUTION, [KEY], deadline_s=1)


def test_invalidate_without_boto3_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> object:  # noqa: ANN401 - the arguments of __import__
        if name.partition(".")[0] in {"boto3", "botocore"}:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AwsMissing, match=r"pip install 'galerly-cdn\[aws\]'"):
        invalidation.invalidate(DISTRIBUTION, [KEY])


async def test_sender_sends_concurrent_keys_as_one_invalidation(aws: FakeAws) -> None:
    keys = photographs("wedding", 101)
    items = [f"#{gallery_tag('wedding')}"]
    aws.expect("cloudfront", "create_invalidation", batch_parameters(items), **invalidation_response(items))
    send = cli_invalidation.key_invalidator(Settings(distribution=DISTRIBUTION))
    await asyncio.gather(*map(send, keys))
    assert cli_invalidation.key_invalidator(Settings()) is no_invalidation


class Batches(InvalidationBatches):
    """Batches that record what they send; `pause` advances their clock."""

    def __init__(self) -> None:
        super().__init__(self.record, clock=lambda: self.now_s, pause=self.pause)
        self.now_s = 0.0
        self.step_s = 60.0
        self.sent: list[tuple[float, int, dict[str, int]]] = []
        self.error: Exception | None = None
        self.on_pause: Callable[[], object] = lambda: None

    async def record(self, keys: Sequence[str], sent: Mapping[str, int]) -> None:
        self.sent.append((self.now_s, len(keys), dict(sent)))
        if self.error:
            raise self.error

    async def pause(self, seconds: float) -> None:
        self.now_s += min(seconds, self.step_s)
        self.on_pause()
        others_run = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(others_run.set_result, None)
        await others_run


async def test_batches_key_alone_is_sent_after_a_second() -> None:
    batches = Batches()
    await batches.add("g/a.jpg")
    assert batches.sent == [(1.0, 1, {})]


async def test_batches_count_the_photographs_of_the_last_minute() -> None:
    batches = Batches()
    for _ in range(2):
        await asyncio.gather(*map(batches.add, photographs("g", 60)))
    batches.now_s = 60.5  # the first batch was sent at 1 s
    await batches.add("g/a.jpg")
    assert batches.sent == [(1.0, 60, {}), (2.0, 60, {"g": 60}), (61.5, 1, {"g": 60})]


async def test_batches_keys_that_keep_coming_are_sent_after_a_minute() -> None:
    batches = Batches()
    adding: list[asyncio.Task[None]] = []

    def add_another() -> None:
        adding.append(asyncio.create_task(batches.add(f"g/{len(adding)}.jpg")))

    batches.on_pause, batches.step_s = add_another, 0.5
    await batches.add("g/a.jpg")
    assert batches.sent[0] == (invalidation_batches.WINDOW_S, 1 + len(adding), {})


async def test_batches_failure_reaches_every_caller_and_not_the_next_batch() -> None:
    batches = Batches()
    batches.error = NotInvalidated("no")
    results = await asyncio.gather(*map(batches.add, ("g/a.jpg", "g/b.jpg")), return_exceptions=True)
    assert results == [batches.error, batches.error]
    batches.error = None
    await batches.add("g/c.jpg")
    assert [count for _, count, _ in batches.sent] == [2, 1]


async def test_batches_cancelled_caller_leaves_its_key_in_the_batch() -> None:
    batches = Batches()
    first, second = (asyncio.create_task(batches.add(f"g/{name}.jpg")) for name in "ab")
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    first.cancel()
    await second
    assert [count for _, count, _ in batches.sent] == [2]


# the commands


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(pictures.jpeg(60, 40))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").write_bytes(pictures.jpeg(40, 60))
    return tmp_path


@pytest.fixture
def filled(store: Path) -> Path:
    """The folder with a store that holds one photograph, and no rendition of it."""
    assert run(store, "upload {folder}/a.jpg --gallery g").exit_code == 0
    return store


def run(store: Path, command: str, **settings: str) -> Result:
    arguments = command.format(folder=store).split()
    env = {"GALERLY_DISTRIBUTION": DISTRIBUTION, **settings}
    return CliRunner().invoke(cli.main, [*arguments, "--store", str(store / "store")], env=env)


def test_purge_rm_and_replace_invalidate_and_new_upload_does_not(aws: FakeAws, store: Path) -> None:
    line = "invalidated  1 photograph by tag, completed: I1\n"
    assert "invalidated" not in run(store, "upload {folder}/a.jpg --gallery g").stdout
    for command in (
        "upload {folder}/other/a.jpg --gallery g --replace",
        "purge g/a.jpg",
        "purge --gallery g",
        "rm g/a.jpg --yes",
    ):
        expect_completed(aws, ["g/a.jpg"])
        done = run(store, command)
        assert (done.exit_code, done.stdout.endswith(line)) == (0, True), done.output
        aws.assert_all_called()


def test_purge_gallery_sends_one_invalidation(aws: FakeAws, store: Path) -> None:
    run(store, "upload {folder} --gallery g")
    keys = ["g/a.jpg", "g/other/a.jpg"]
    aws.expect("cloudfront", "create_invalidation", None, **invalidation_response(tags(*keys)))
    aws.expect("cloudfront", "get_invalidation", None, **invalidation_response(tags(*keys), "Completed"))
    done = run(store, "purge --gallery g --json")
    value = json.loads(done.stdout.splitlines()[-1])
    assert (value["keys"], value["by"], value["is_completed"]) == (2, "tag", True)


def test_purge_with_public_url_prints_next_response(
    aws: FakeAws, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_completed(aws, ["g/a.jpg"])
    answer = http_viewer.ViewerResponse(200, {"x-cache": "Miss from cloudfront"})
    monkeypatch.setattr(http_viewer, "fetch", lambda _address: answer)
    done = run(filled, "purge g/a.jpg", GALERLY_PUBLIC_URLS="https://cdn.test")
    assert done.stdout.splitlines()[-1] == "asked again  https://cdn.test/resize/150x150/g/a.jpg: 200 Miss"


def test_purge_refused_invalidation_prints_result_and_exits_with_1(aws: FakeAws, filled: Path) -> None:
    aws.expect_error("cloudfront", "create_invalidation", "AccessDenied", "not you")
    done = run(filled, "purge g/a.jpg")
    assert (done.exit_code, done.stdout) == (1, "purged  g/a.jpg  0 renditions\n")
    error = f"galerly-cdn: {NotInvalidated.public} (CreateInvalidation: AccessDenied: not you)\n"
    assert done.stderr == error


def test_purge_without_distribution_does_not_invalidate(aws: FakeAws, filled: Path) -> None:
    assert run(filled, "purge g/a.jpg", GALERLY_DISTRIBUTION="").stdout == "purged  g/a.jpg  0 renditions\n"
    aws.assert_all_called()
