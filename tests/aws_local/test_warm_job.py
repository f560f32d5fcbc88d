"""`aws warm --all` on the local AWS: the manifest, the job, the prewarm function, and the report."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from galerly_cdn.aws.deploy import template, warm_job
from galerly_cdn.aws_local.functions.batch_operations import BatchOperations, JobRefused
from galerly_cdn.settings.table import Settings
from tests.support import deployed_stack, local_cloudfront, pictures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from galerly_cdn.aws.deploy.warm_job import Report
    from galerly_cdn.aws_local.functions.batch_operations import JobResult

COUNT = int(os.environ.get("WARM_JOB_PHOTOGRAPHS", "12"))
"""The number of originals; 2000 were used once (docs/aws.md)."""
BEFORE, AFTER = (
    Settings(sizes=(f"thumbnail 80x80 jpeg={quality} webp={quality}", "small 40x40 jpeg=70"))
    for quality in (60, 70)
)
PHOTOGRAPH = pictures.jpeg(60, 40)

pytestmark = [pytest.mark.server("versitygw", "node")]


class JobBucket:
    """The bucket of manifests and reports, beside that of the stack."""

    def __init__(self, stack: deployed_stack.DeployedStack) -> None:
        self._client = stack.bucket.server.client
        self.name = f"{stack.bucket.name}-logs"
        if self.name not in {one["Name"] for one in self._client.list_buckets()["Buckets"]}:
            self._client.create_bucket(Bucket=self.name)
        self.files: dict[str, bytes] = {}

    def originals(self, bucket: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="originals/")
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def read(self, arn: str) -> bytes:
        bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
        content: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def write(self, arn: str, content: bytes) -> None:
        bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
        self._client.put_object(Bucket=bucket, Key=key, Body=content)
        self.files[key] = content


class KilledOnce:
    """Invokes a function, and kills one environment in the middle of the job, after its first rendition."""

    def __init__(self, stack: deployed_stack.DeployedStack, after: int | None) -> None:
        self._runtime = stack.running.functions["PrewarmFunction"]
        self._after = after
        self.invocations = 0
        self.puts: dict[str, int] = {}
        stack.running.role_checks["PrewarmFunction"].after = self._count

    async def invoke(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        self.invocations += 1
        return await self._runtime.invoke(event)

    async def _count(self, request: Any, response: Any) -> None:  # noqa: ANN401 - a request and a response
        if (
            request.method == "PUT"
            and "/facts/" not in request.raw_path
            and "/recipes/" not in request.raw_path
            and response.status == 200
        ):
            self.puts[request.raw_path] = self.puts.get(request.raw_path, 0) + 1
            if self._after is not None and len(self.puts) > self._after:
                self._after = None
                self._runtime.kill()
                await asyncio.Event().wait()


async def run_job(stack: deployed_stack.DeployedStack, function: KilledOnce) -> tuple[JobResult, Report]:
    """The result of a job for all photographs of the bucket, and its report."""
    jobs = JobBucket(stack)
    plan = stack.running.cloudfront.plan
    properties = plan.functions["PrewarmFunction"]
    function_arn = f"arn:aws:lambda:us-east-1:123456789012:function:{properties.name}"
    (role_arn,) = [arn for arn in plan.roles if arn.endswith("WarmRole")]
    parts = warm_job.WarmStack(stack.bucket.name, function_arn, role_arn, jobs.name)
    manifest = warm_job.manifest(stack.bucket.name, jobs.originals(stack.bucket.name))
    jobs.write(f"arn:aws:s3:::{jobs.name}/{warm_job.manifest_key('t')}", manifest.content)
    etag = hashlib.md5(manifest.content, usedforsecurity=False).hexdigest()
    request = warm_job.job_request(parts, "123456789012", "t", etag)
    operations = BatchOperations(function, function_arn, plan.roles[role_arn], jobs)
    result = await operations.run(request)
    reports = [content.decode() for name, content in jobs.files.items() if "/results/" in name]
    return result, warm_job.read_report(reports)


def stack_with(settings: Settings) -> str:
    return template.render(settings)


async def test_warm_job_with_a_killed_function_makes_nothing_else_twice(
    tmp_path: Path,
) -> None:
    keys = [f"g{number % 3}/é {number}.jpg" for number in range(COUNT)]
    targets = len(AFTER.warm_targets)
    changed = len(AFTER.warm_targets) - 1  # the recipe of 40x40 is the same
    async with deployed_stack.start(tmp_path, stack_with(BEFORE)) as stack:
        for key in keys:
            await asyncio.to_thread(stack.bucket.put, f"originals/{key}", PHOTOGRAPH)
        result, report = await run_job(stack, KilledOnce(stack, None))
        assert (result.succeeded, result.failed, result.repeated) == (COUNT, 0, 0)
        assert (report.photographs, report.made, report.outdated) == (COUNT, COUNT * targets, 0)
        bucket = stack.bucket.name
    async with deployed_stack.start(tmp_path, stack_with(AFTER), bucket_name=bucket) as stack:
        killed = KilledOnce(stack, after=COUNT * changed // 2)
        result, report = await run_job(stack, killed)
        assert (result.succeeded, result.failed, report.failures) == (COUNT, 0, {})
        assert 1 <= result.repeated <= 2  # the environments that ran when one was killed
        assert len(killed.puts) == COUNT * changed  # all outdated renditions were replaced, no other one
        assert sum(killed.puts.values()) <= COUNT * changed + result.repeated
        assert report.made + report.current == COUNT * targets
        assert COUNT * changed - result.repeated * changed <= report.outdated <= COUNT * changed
        again = KilledOnce(stack, None)
        _, report = await run_job(stack, again)
        assert (report.made, report.outdated, report.current) == (0, 0, COUNT * targets)
        assert again.puts == {}


async def test_warm_job_reports_photographs_that_cannot_be_rendered(tmp_path: Path) -> None:
    async with deployed_stack.start(tmp_path, stack_with(AFTER)) as stack:
        await asyncio.to_thread(stack.bucket.put, "originals/g/bad.jpg", b"no picture")
        await asyncio.to_thread(stack.bucket.put, "originals/g/good.jpg", PHOTOGRAPH)
        await asyncio.to_thread(stack.bucket.put, "originals/g/notes.txt", b"no photograph")
        result, report = await run_job(stack, KilledOnce(stack, None))
        assert (result.succeeded, result.failed, result.repeated) == (1, 1, 0)
        assert (report.photographs, [*report.failures]) == (2, ["g/bad.jpg"])


ROLE = "WarmRole/Properties/Policies/0/PolicyDocument/Statement"


@pytest.mark.parametrize(
    ("path", "action"),
    [
        (f"{ROLE}/0", "lambda:InvokeFunction"),
        (f"{ROLE}/1", "s3:GetObject"),
        (f"{ROLE}/1/Action/1", "s3:PutObject"),
    ],
)
async def test_warm_job_without_a_permission_is_refused(tmp_path: Path, path: str, action: str) -> None:
    text = local_cloudfront.changed_template(local_cloudfront.set_value(path, None))
    async with deployed_stack.start(tmp_path, text) as stack:
        with pytest.raises(JobRefused, match=action):
            await run_job(stack, KilledOnce(stack, None))
