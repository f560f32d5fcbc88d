"""Runs a job of S3 Batch Operations that invokes a function: manifest, events, result codes and report.

Source: the Amazon S3 User Guide, "Specifying a manifest", "Invoke AWS Lambda function" and "Completion
reports". Progress, priorities and cancelling are not modelled.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import uuid
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws_local.functions.runtime import Crashed, FunctionFailed, Throttled, TimedOut
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from galerly_cdn.aws_local.functions.function_url import Invocable
    from galerly_cdn.aws_local.iam.roles import Role

    class ObjectStore(Protocol):
        """A bucket's objects by ARN."""

        def read(self, arn: str) -> bytes: ...

        def write(self, arn: str, content: bytes) -> None: ...


_MAX_ATTEMPTS = 5
_CODES = {"Succeeded", "TemporaryFailure", "PermanentFailure"}


class JobRefused(Exception):
    """S3 would refuse the job, or fail it before its first task."""


class JobResult(Value, frozen=True):
    """A job that has ended, and how many of its invocations were repetitions."""

    id: str
    succeeded: int
    failed: int
    repeated: int


class BatchOperations:
    """Runs jobs with a role, which must allow each request of S3."""

    def __init__(self, function: Invocable, function_arn: str, role: Role, store: ObjectStore) -> None:
        self._function = function
        self._function_arn = function_arn
        self._role = role
        self._store = store

    async def run(self, request: Mapping[str, Any], concurrency: int = 2) -> JobResult:
        """Run a job to its end and write its report; `request` has the parameters of CreateJob.

        Raises `JobRefused`.
        """
        tasks = self._read_manifest(request["Manifest"])
        invoke = request["Operation"]["LambdaInvoke"]
        if invoke["FunctionArn"] != self._function_arn:
            raise JobRefused(f"there is no function {invoke['FunctionArn']}")
        self._check("lambda:InvokeFunction", self._function_arn)
        job_id, schema = str(uuid.uuid4()), invoke["InvocationSchemaVersion"]
        rows: dict[int, list[str]] = {}
        repeated = 0
        slots = asyncio.Semaphore(concurrency)

        async def run_task(number: int, bucket: str, key: str) -> None:
            nonlocal repeated
            code, text, attempts = "TemporaryFailure", "", 0
            async with slots:
                while code == "TemporaryFailure" and attempts < _MAX_ATTEMPTS:
                    code, text = await self._invoke(job_id, number, bucket, key, schema)
                    attempts += 1
            repeated += attempts - 1
            is_done = code == "Succeeded"
            rows[number] = [
                *(bucket, key, "", "succeeded" if is_done else "failed"),
                *("" if is_done else code, "200", text),
            ]

        await asyncio.gather(*(run_task(number, *task) for number, task in enumerate(tasks)))
        self._write_report(request["Report"], job_id, [rows[number] for number in sorted(rows)])
        succeeded = sum(row[3] == "succeeded" for row in rows.values())
        return JobResult(job_id, succeeded, len(rows) - succeeded, repeated)

    def _read_manifest(self, description: Mapping[str, Any]) -> list[tuple[str, str]]:
        spec, location = description["Spec"], description["Location"]
        if spec != {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]}:
            raise JobRefused(f"the manifest {spec} is not modelled")
        self._check("s3:GetObject", location["ObjectArn"])
        content = self._store.read(location["ObjectArn"])
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != location["ETag"]:
            raise JobRefused("the manifest's ETag does not match")
        rows = [(bucket, key) for bucket, key in csv.reader(io.StringIO(content.decode()))]
        for _, key in rows:
            if not key.isascii() or any(character <= " " for character in key):
                raise JobRefused(f"{key!r} is not percent-encoded")
        return rows

    def _check(self, action: str, resource: str) -> None:
        if not self._role.allows(action, resource):
            raise JobRefused(f"the role may not {action} {resource}")

    async def _invoke(self, job_id: str, number: int, bucket: str, key: str, schema: str) -> tuple[str, str]:
        """The result code and text of one attempt; a function that crashes is a temporary failure."""
        task_id = f"task-{number}"
        event = {
            "invocationSchemaVersion": schema,
            "invocationId": str(uuid.uuid4()),
            "job": {"id": job_id},
            "tasks": [
                {
                    "taskId": task_id,
                    "s3BucketArn": f"arn:aws:s3:::{bucket}",
                    "s3Key": key,
                    "s3VersionId": None,
                }
            ],
        }
        try:
            result = await self._function.invoke(event)
        except (Throttled, TimedOut, Crashed, FunctionFailed) as error:
            return "TemporaryFailure", type(error).__name__
        (one,) = result["results"]
        expected = (schema, event["invocationId"], task_id)
        found = (result["invocationSchemaVersion"], result["invocationId"], one["taskId"])
        if found != expected or one["resultCode"] not in _CODES or result["treatMissingKeysAs"] not in _CODES:
            return "PermanentFailure", "the function's result has another form"
        return one["resultCode"], one["resultString"]

    def _write_report(self, description: Mapping[str, Any], job_id: str, rows: list[list[str]]) -> None:
        """A CSV file of all tasks, and the manifest of the report, which lists the files."""
        if description["ReportScope"] != "AllTasks" or description["Format"] != "Report_CSV_20180820":
            raise JobRefused("the report is not modelled")
        folder = f"{description['Bucket']}/{description['Prefix']}/job-{job_id}"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        files = {
            f"{folder}/results/{uuid.uuid4().hex}.csv": text.getvalue().encode(),
            f"{folder}/manifest.json": json.dumps({"Format": description["Format"]}).encode(),
        }
        for arn, content in files.items():
            self._check("s3:PutObject", arn)
            self._store.write(arn, content)
