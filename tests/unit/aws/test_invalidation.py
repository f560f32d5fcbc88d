"""What is purged, replaced or deleted is forgotten by CloudFront, by its tag; a command waits and tells."""

from __future__ import annotations

import builtins
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from galerly_cdn import cli
from galerly_cdn.aws.deploy import http_viewer, invalidation
from galerly_cdn.cli import invalidation as downstream
from galerly_cdn.errors import AwsMissing, NotInvalidated
from galerly_cdn.http.urls import cache_tag
from galerly_cdn.library import no_invalidation
from galerly_cdn.model import Size, Target
from galerly_cdn.settings.table import Settings
from tests.support import pictures
from tests.support.fake_aws import ANY, Amazon, amazon

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["amazon"]

DISTRIBUTION = "E2EXAMPLE0000"
KEY = "wedding/été & +.jpg"
SPELT = "wedding/%C3%A9t%C3%A9%20%26%20%2B.jpg"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GALERLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GALERLY_WORKERS", "1")
    monkeypatch.setattr(invalidation, "_POLL_S", 1)


def asked(items: Sequence[str]) -> dict[str, Any]:
    paths = {"Quantity": len(items), "Items": list(items)}
    return {
        "DistributionId": DISTRIBUTION,
        "InvalidationBatch": {"Paths": paths, "CallerReference": ANY},
    }


def made(items: Sequence[str], status: str = "InProgress", invalidation_id: str = "I1") -> dict[str, Any]:
    batch = {"Paths": {"Quantity": len(items), "Items": list(items)}, "CallerReference": "x"}
    told = {"Id": invalidation_id, "Status": status, "CreateTime": 0, "InvalidationBatch": batch}
    return {"Invalidation": told}


def tags(*keys: str) -> list[str]:
    return [f"#{cache_tag(key)}" for key in keys]


def forgets(amazon: Amazon, keys: Sequence[str], invalidation_id: str = "I1") -> None:
    """CloudFront takes it, and is done at once."""
    items = tags(*keys)
    amazon.expects(
        "cloudfront", "create_invalidation", asked(items), **made(items, "InProgress", invalidation_id)
    )
    amazon.expects(
        "cloudfront",
        "get_invalidation",
        {"DistributionId": DISTRIBUTION, "Id": invalidation_id},
        **made(items, "Completed", invalidation_id),
    )


def test_a_photograph_is_forgotten_by_its_tag_and_without_a_deadline_nobody_waits(amazon: Amazon) -> None:
    amazon.expects("cloudfront", "create_invalidation", asked(tags(KEY)), **made(tags(KEY)))
    done = invalidation.invalidate(DISTRIBUTION, [KEY])
    assert done == invalidation.Invalidated(DISTRIBUTION, 1, "tag", ("I1",), is_completed=False)


def test_many_go_in_as_few_requests_as_cloudfront_takes(amazon: Amazon) -> None:
    keys = [f"g/{number}.jpg" for number in range(1001)]
    forgets(amazon, keys[:1000], "I1")
    forgets(amazon, keys[1000:], "I2")
    done = invalidation.invalidate(DISTRIBUTION, keys, deadline_s=1)
    assert (done.ids, done.keys, done.is_completed) == (("I1", "I2"), 1001, True)


def test_where_tags_are_refused_every_path_of_the_cache_is_told(amazon: Amazon) -> None:
    targets = [Target(Size(800, 600)), Target(Size(800, 600), Settings().size_rules[0].negotiable[0])]
    paths = [f"/resized/800x600/{SPELT}", f"/resized/800x600.avif/{SPELT}", f"/originals/{SPELT}"]
    amazon.refuses("cloudfront", "create_invalidation", "InvalidArgument", asked=asked(tags(KEY)))
    amazon.expects("cloudfront", "create_invalidation", asked(paths), **made(paths))
    assert invalidation.invalidate(DISTRIBUTION, [KEY], targets).by == "path"


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchDistribution", "InvalidArgument"])
def test_what_cloudfront_refuses_is_told_in_its_words(amazon: Amazon, code: str) -> None:
    amazon.refuses("cloudfront", "create_invalidation", code, "not you")
    with pytest.raises(NotInvalidated) as refused:
        invalidation.invalidate(DISTRIBUTION, [KEY])
    assert refused.value.detail == f"CreateInvalidation: {code}: not you"


def test_one_that_does_not_complete_in_time_is_no_success(amazon: Amazon) -> None:
    amazon.expects("cloudfront", "create_invalidation", asked(tags(KEY)), **made(tags(KEY)))
    amazon.expects("cloudfront", "get_invalidation", None, **made(tags(KEY)))
    with pytest.raises(NotInvalidated, match="Max attempts exceeded"):
        invalidation.invalidate(DISTRIBUTION, [KEY], deadline_s=1)


def test_without_boto3_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> object:  # noqa: ANN401 - as it is
        if name.partition(".")[0] in {"boto3", "botocore"}:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AwsMissing, match=r"pip install 'galerly-cdn\[aws\]'"):
        invalidation.invalidate(DISTRIBUTION, [KEY])


async def test_a_running_cdn_sends_each_key_and_does_not_wait(amazon: Amazon) -> None:
    amazon.expects("cloudfront", "create_invalidation", asked(tags(KEY)), **made(tags(KEY)))
    await downstream.sender(Settings(distribution=DISTRIBUTION))(KEY)
    assert downstream.sender(Settings()) is no_invalidation


# the commands


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(pictures.jpeg(60, 40))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").write_bytes(pictures.jpeg(40, 60))
    return tmp_path


def run(store: Path, command: str, **settings: str) -> Result:
    words = command.format(desk=store).split()
    env = {"GALERLY_DISTRIBUTION": DISTRIBUTION, **settings}
    return CliRunner().invoke(cli.main, [*words, "--store", str(store / "store")], env=env)


def test_purge_rm_and_a_replace_forget_and_say_so_an_upload_of_something_new_does_not(
    amazon: Amazon, store: Path
) -> None:
    told = "invalidated  1 photograph by tag, completed: I1\n"
    assert "invalidated" not in run(store, "upload {desk}/a.jpg --gallery g").stdout
    for command in (
        "upload {desk}/other/a.jpg --gallery g --replace",
        "purge g/a.jpg",
        "purge --gallery g",
        "rm g/a.jpg --yes",
    ):
        forgets(amazon, ["g/a.jpg"])
        done = run(store, command)
        assert (done.exit_code, done.stdout.endswith(told)) == (0, True), done.output
        amazon.was_asked_it_all()


def test_a_gallery_is_forgotten_at_once(amazon: Amazon, store: Path) -> None:
    run(store, "upload {desk} --gallery g")
    keys = ["g/a.jpg", "g/other/a.jpg"]
    amazon.expects("cloudfront", "create_invalidation", None, **made(tags(*keys)))
    amazon.expects("cloudfront", "get_invalidation", None, **made(tags(*keys), "Completed"))
    done = run(store, "purge --gallery g --json")
    value = json.loads(done.stdout.splitlines()[-1])
    assert (value["keys"], value["by"], value["is_completed"]) == (2, "tag", True)


def test_with_a_public_address_the_next_answer_is_told(
    amazon: Amazon, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgets(amazon, ["g/a.jpg"])
    answer = http_viewer.ViewerResponse(200, {"x-cache": "Miss from cloudfront"})
    monkeypatch.setattr(http_viewer, "fetch", lambda _address: answer)
    done = run(store, "purge g/a.jpg", GALERLY_PUBLIC_URLS="https://cdn.test")
    assert done.stdout.splitlines()[-1] == "asked again  https://cdn.test/resize/150x150/g/a.jpg: 200 Miss"


def test_a_refusal_of_cloudfront_ends_with_1_after_what_was_removed_is_told(
    amazon: Amazon, store: Path
) -> None:
    amazon.refuses("cloudfront", "create_invalidation", "AccessDenied", "not you")
    done = run(store, "purge g/a.jpg")
    assert (done.exit_code, done.stdout) == (1, "purged  g/a.jpg  0 renditions\n")
    complaint = f"galerly-cdn: {NotInvalidated.public} (CreateInvalidation: AccessDenied: not you)\n"
    assert done.stderr == complaint


def test_without_a_distribution_nobody_is_told(amazon: Amazon, store: Path) -> None:
    assert run(store, "purge g/a.jpg", GALERLY_DISTRIBUTION="").stdout == "purged  g/a.jpg  0 renditions\n"
    amazon.was_asked_it_all()
