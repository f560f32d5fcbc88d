"""Warms all photographs of a stack by a job of S3 Batch Operations, which invokes the prewarm function.

The job's manifest is a CSV file of the originals; S3 repeats failed tasks, and writes a report of all tasks
(Amazon S3 User Guide, "Performing object operations in bulk with Batch Operations").
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus

from galerly_cdn.aws.deploy import boto, buckets
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.http.urls import gallery_name
from galerly_cdn.render.formats import is_photograph_name
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ORIGINALS = "originals/"
_FOLDER = "warm"
"""Where the manifests and reports are, in the bucket of the access logs."""
JOB_DOLLARS = 0.25
TASK_DOLLARS = 1e-6
"""S3 Batch Operations: a job, and an object of it; as listed on 2026-11-23."""
_GIGABYTE_SECOND_DOLLARS = 0.0000133334
_INVOCATION_DOLLARS = 2e-7
_PUT_DOLLARS = 5e-6
_RENDITION_S = 1.0
"""Time to render one rendition of a large photograph with one vCPU, as the guide's example assumes."""
_PATH_DOLLARS = 0.005
_ENDED = {"Complete", "Failed", "Cancelled"}


class WarmStack(Value, frozen=True):
    """The parts of a stack that a job needs, from its outputs."""

    bucket: str
    function_arn: str
    role_arn: str
    job_bucket: str

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, str]) -> WarmStack:
        """Raises `DeploymentFailed` if an output is missing: the stack is of an older release."""
        try:
            return cls(
                bucket=outputs["Store"].removeprefix("s3://"),
                function_arn=outputs["WarmFunction"],
                role_arn=outputs["WarmRole"],
                job_bucket=outputs["WarmBucket"],
            )
        except KeyError as error:
            raise DeploymentFailed(
                f"the stack has no output {error}: deploy it with this release first"
            ) from error


class Manifest(Value, frozen=True):
    """A job's list of photographs, as a CSV file."""

    content: bytes
    photographs: int
    galleries: int


class Estimate(Value, frozen=True):
    """What a job costs at most: all renditions are made, and every gallery is invalidated."""

    photographs: int
    renditions: int
    job_dollars: float
    render_dollars: float
    store_dollars: float
    invalidation_dollars: float

    @property
    def dollars(self) -> float:
        return self.job_dollars + self.render_dollars + self.store_dollars + self.invalidation_dollars


class Job(Value, frozen=True):
    """The state of a job."""

    id: str
    status: str
    total: int
    succeeded: int
    failed: int
    reason: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED


class Report(Value, frozen=True):
    """The results of a job's tasks: photographs, renditions, and the keys whose renditions were replaced.

    `failures` are the errors by key.
    """

    photographs: int
    made: int
    outdated: int
    current: int
    replaced_keys: tuple[str, ...]
    failures: dict[str, str]


def manifest(bucket: str, names: Iterable[str]) -> Manifest:
    """The manifest of the photographs among the names of objects. Pure.

    S3 requires percent-encoded names in a manifest.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    photographs = 0
    galleries = set()
    for name in names:
        if is_photograph_name(name):
            writer.writerow([bucket, quote(name, safe="/")])
            photographs += 1
            galleries.add(gallery_name(name))
    return Manifest(text.getvalue().encode(), photographs, len(galleries))


def estimate(made: Manifest, targets: int, memory_mb: int) -> Estimate:
    """The highest price of a job for `targets` renditions of each photograph. Pure."""
    renditions = made.photographs * targets
    second_dollars = memory_mb / 1024 * _GIGABYTE_SECOND_DOLLARS
    return Estimate(
        photographs=made.photographs,
        renditions=renditions,
        job_dollars=JOB_DOLLARS + made.photographs * TASK_DOLLARS,
        render_dollars=renditions * _RENDITION_S * second_dollars + made.photographs * _INVOCATION_DOLLARS,
        store_dollars=renditions * _PUT_DOLLARS,
        invalidation_dollars=made.galleries * _PATH_DOLLARS,
    )


def job_request(stack: WarmStack, account: str, token: str, etag: str) -> dict[str, Any]:
    """The parameters of CreateJob for a manifest that was uploaded under this token. Pure."""
    arn = f"arn:aws:s3:::{stack.job_bucket}"
    return {
        "AccountId": account,
        "ClientRequestToken": token,
        "ConfirmationRequired": False,
        "Description": "galerly-cdn aws warm --all",
        "Priority": 10,
        "RoleArn": stack.role_arn,
        "Operation": {"LambdaInvoke": {"FunctionArn": stack.function_arn, "InvocationSchemaVersion": "1.0"}},
        "Manifest": {
            "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]},
            "Location": {"ObjectArn": f"{arn}/{manifest_key(token)}", "ETag": etag},
        },
        "Report": {
            "Bucket": arn,
            "Prefix": f"{_FOLDER}/reports",
            "Format": "Report_CSV_20180820",
            "Enabled": True,
            "ReportScope": "AllTasks",
        },
    }


def manifest_key(token: str) -> str:
    """Where a job's manifest is uploaded."""
    return f"{_FOLDER}/{token}.csv"


def read_report(files: Iterable[str]) -> Report:
    """The results in a report's CSV files. A key's last line counts, as a repeated task may have two. Pure.

    The columns are bucket, key, version, status, error code, HTTP status and the function's text.
    """
    rows = (row for text in files for row in csv.reader(io.StringIO(text)))
    by_key = {unquote_plus(row[1]).removeprefix(ORIGINALS): row for row in rows}
    made = outdated = current = 0
    replaced, failures = [], {}
    for key, (*_, status, error_code, _http_status, text) in by_key.items():
        if status != "succeeded":
            failures[key] = text or error_code
            continue
        result = json.loads(text)
        made, current = made + result["made"], current + result["current"]
        outdated += result["outdated"]
        if result["outdated"]:
            replaced.append(key)
    return Report(len(by_key), made, outdated, current, tuple(sorted(replaced)), failures)


class WarmJobs:
    """Starts, reads and cancels the jobs of a stack. Methods raise `AwsRefused`."""

    def __init__(self, stack: WarmStack) -> None:
        self._stack = stack
        self._account = buckets.account_id()
        self._s3 = boto.client("s3")
        self._control = boto.client("s3control")

    def list_photographs(self, gallery: str = "") -> Manifest:
        """A manifest of all originals, or of those of a gallery and the galleries below it."""
        prefix = f"{ORIGINALS}{gallery}/" if gallery else ORIGINALS
        with boto.aws_errors():
            listing = self._s3.get_paginator("list_objects_v2")
            pages = listing.paginate(Bucket=self._stack.bucket, Prefix=prefix)
            names = (one["Key"] for page in pages for one in page.get("Contents", []))
            return manifest(self._stack.bucket, names)

    def start(self, made: Manifest) -> str:
        """Upload a manifest and create its job; the job's ID."""
        token = uuid.uuid4().hex
        with boto.aws_errors():
            stored = self._s3.put_object(
                Bucket=self._stack.job_bucket, Key=manifest_key(token), Body=made.content
            )
            request = job_request(self._stack, self._account, token, stored["ETag"].strip('"'))
            return str(self._control.create_job(**request)["JobId"])

    def state(self, job_id: str) -> Job:
        """The job's state and progress."""
        with boto.aws_errors():
            job = self._control.describe_job(AccountId=self._account, JobId=job_id)["Job"]
        progress = job.get("ProgressSummary", {})
        reasons = [one.get("FailureReason", "") for one in job.get("FailureReasons", [])]
        return Job(
            id=job_id,
            status=job["Status"],
            total=progress.get("TotalNumberOfTasks", 0),
            succeeded=progress.get("NumberOfTasksSucceeded", 0),
            failed=progress.get("NumberOfTasksFailed", 0),
            reason="; ".join(reasons) or job.get("StatusUpdateReason", ""),
        )

    def cancel(self, job_id: str) -> None:
        """Cancel a job. Renditions that it has made stay."""
        with boto.aws_errors():
            self._control.update_job_status(
                AccountId=self._account, JobId=job_id, RequestedJobStatus="Cancelled"
            )

    def report(self, job_id: str) -> Report:
        """The report of a job that has ended."""
        return read_report(self._report_files(job_id))

    def _report_files(self, job_id: str) -> Iterator[str]:
        prefix = f"{_FOLDER}/reports/job-{job_id}/results/"
        with boto.aws_errors():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._stack.job_bucket, Prefix=prefix
            )
            for page in pages:
                for one in page.get("Contents", []):
                    found = self._s3.get_object(Bucket=self._stack.job_bucket, Key=one["Key"])
                    yield found["Body"].read().decode()


def failure_lines(failures: Mapping[str, str], limit: int) -> Sequence[str]:
    """The first failures, a line each."""
    return [f"failed    {key}: {error}" for key, error in list(failures.items())[:limit]]
