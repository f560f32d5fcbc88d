"""Decides on the facts of the machine: limits, memory, disk, the sandbox of a worker, libvips. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.insight.doctor.checks import Check, Result, Status, Subject, Symptom, judged, skipped
from galerly_cdn.render.pool.protocol import Ready
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_LIMITS = ("memory", "file-size", "open-files", "core")
"""The resource limits of a worker, by the names in `Ready.limits`."""
_LAYERS = {
    "no-network": "a decoder that is taken over could send data",
    "no-files": "a decoder that is taken over could read this machine's files",
    "no-new-privileges": "a decoder that is taken over could run programs with more rights",
    "parent-death": "workers would outlive a killed server",
    "low-priority": "renders slow hits down",
}
"""The other layers of the sandbox, and what each one's absence means."""
_REQUIRED = {"avif", "gif", "jpeg", "png", "tiff", "webp"}
_EXTRAS = {"heic": "photographs of phones", "raw": "cameras' raw files"}
_MIB = 1024 * 1024
_MIN_FREE = 0.05
"""The share of a disk that must be free."""


class Disk(Value, frozen=True):
    """The file system of a folder."""

    folder: str
    total_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        return f"{mib(self.free_bytes)} of {mib(self.total_bytes)} are free in {self.folder}"


class MachineFacts(Value, frozen=True, kw_only=True):
    """This machine, and one render worker that was started on it with the settings."""

    settings: Settings
    open_files: int
    """The limit that the server can get."""
    open_files_needed: int
    cores: int
    memory_bytes: int
    """The memory that this process may use: the machine's, or less in a container."""
    renditions: Disk | None
    """None for a remote store."""
    temporary: Disk
    worker: Ready | None
    """None if no worker starts."""
    worker_problem: str
    packaged_libvips: str
    """The version in the pyvips-binary package."""


def _of_worker(decide: Callable[[MachineFacts, Ready], Result]) -> Callable[[MachineFacts], Result]:
    """A check of a worker that has started."""

    def decide_if_started(facts: MachineFacts) -> Result:
        return skipped("no worker starts") if facts.worker is None else decide(facts, facts.worker)

    return decide_if_started


def _open_files(facts: MachineFacts) -> Result:
    found = f"the limit is {facts.open_files:,}; max_connections = {facts.settings.max_connections:,} needs "
    return judged(f"{found}{facts.open_files_needed:,}", is_ok=facts.open_files >= facts.open_files_needed)


def _memory(facts: MachineFacts) -> Result:
    settings = facts.settings
    workers = settings.workers or facts.cores
    needed = settings.render_memory_bytes + settings.memory_cache_bytes + workers * settings.worker_rss_bytes
    found = f"{mib(facts.memory_bytes)} of memory; the settings may use {mib(needed)} with {workers} workers"
    return judged(found, is_ok=needed <= facts.memory_bytes, otherwise=Status.WARNING)


def _cores(facts: MachineFacts) -> Result:
    workers = facts.settings.workers
    found = f"{facts.cores} cores; workers = {workers}" + ("" if workers else ", which is one per core")
    return judged(found, is_ok=workers <= 2 * facts.cores, otherwise=Status.WARNING)


def _disk(facts: MachineFacts) -> Result:
    disk, wanted_bytes = facts.renditions, facts.settings.renditions_bytes
    if disk is None:
        return skipped("the renditions are in a remote store")
    if disk.total_bytes < wanted_bytes:
        return Result(Status.FAILED, f"{disk}, and renditions_bytes is {mib(wanted_bytes)}")
    return judged(str(disk), is_ok=disk.free_bytes >= _MIN_FREE * disk.total_bytes, otherwise=Status.WARNING)


def _temporary(facts: MachineFacts) -> Result:
    needed = facts.settings.max_original_bytes
    found = f"{facts.temporary}; one original may have {mib(needed)}"
    return judged(found, is_ok=facts.temporary.free_bytes >= needed)


def _worker(facts: MachineFacts) -> Result:
    return judged(facts.worker_problem or "a worker starts", is_ok=facts.worker is not None)


def _limits(facts: MachineFacts, worker: Ready) -> Result:
    missing = [one for one in _LIMITS if one not in worker.limits]
    limit = mib(facts.settings.worker_memory_bytes)
    return judged(
        f"not in force: {', '.join(missing)}" if missing else f"in force; a worker gets {limit} of memory",
        is_ok=not missing,
    )


def _sandbox(_: MachineFacts, worker: Ready) -> Result:
    missing = [f"{name} ({effect})" for name, effect in _LAYERS.items() if name not in worker.limits]
    found = f"not in force: {', '.join(missing)}" if missing else f"in force: {', '.join(_LAYERS)}"
    return judged(found, is_ok=not missing, otherwise=Status.WARNING)


def _libvips(facts: MachineFacts, worker: Ready) -> Result:
    packaged = facts.packaged_libvips
    found = f"libvips {worker.libvips}; the package pyvips-binary has {packaged}"
    return judged(found, is_ok=packaged == worker.libvips)


def _formats(_: MachineFacts, worker: Ready) -> Result:
    missing = sorted(_REQUIRED.difference(worker.formats))
    if missing:
        return Result(Status.FAILED, f"not decoded: {', '.join(missing)}")
    absent = [f"{name} ({what})" for name, what in _EXTRAS.items() if name not in worker.formats]
    without = f"; without the extra: {', '.join(absent)}" if absent else ""
    return Result(Status.OK, f"decoded: {', '.join(worker.formats)}{without}")


def mib(length_bytes: int) -> str:
    """A length in MiB, or in GiB from 10 GiB on, as the settings are counted."""
    if length_bytes >= 10 * 1024 * _MIB:
        return f"{length_bytes / 1024 / _MIB:,.0f} GiB"
    return f"{length_bytes / _MIB:,.0f} MiB"


CHECKS: tuple[Check[MachineFacts], ...] = (
    Check(
        "open-files",
        Subject.MACHINE,
        Symptom.NOT_LOADING,
        "The limit of open files covers every connection that `max_connections` allows.",
        "Above the limit new connections are reset, and pictures are missing at busy times only.",
        "Raise the hard limit (`ulimit -Hn`, or LimitNOFILE= of systemd), or lower `max_connections`.",
        _open_files,
    ),
    Check(
        "memory",
        Subject.MACHINE,
        Symptom.NOT_LOADING,
        "The memory that the settings may use is there, also inside a container's limit.",
        "The kernel kills a worker, or the server, when memory runs out.",
        "Lower `render_memory_bytes`, `workers` or `memory_cache_bytes`, or add memory.",
        _memory,
    ),
    Check(
        "cores",
        Subject.MACHINE,
        Symptom.SLOW,
        "There are at most two workers for each core.",
        "More workers render no more pictures in a second, and each takes longer and needs memory.",
        "Set `workers` to 0, which is one per core.",
        _cores,
    ),
    Check(
        "disk-space",
        Subject.MACHINE,
        Symptom.NOT_LOADING,
        "The disk of the renditions holds `renditions_bytes`, and a twentieth of it is free.",
        "On a full disk no rendition is stored: each request renders again.",
        "Lower `renditions_bytes` below the size of the disk, or free space.",
        _disk,
    ),
    Check(
        "temporary-space",
        Subject.MACHINE,
        Symptom.NOT_LOADING,
        "The folder of temporary files has room for an original of `max_original_bytes`.",
        "Originals of a remote store are downloaded to it, and uploads to a remote store are received in it.",
        "Free space, or name another folder by the variable TMPDIR.",
        _temporary,
    ),
    Check(
        "worker",
        Subject.MACHINE,
        Symptom.NOT_LOADING,
        "A render worker starts with the settings.",
        "Without workers only stored renditions are served.",
        "Correct the cause that is named; `worker_memory_bytes` may be too low.",
        _worker,
    ),
    Check(
        "worker-limits",
        Subject.MACHINE,
        Symptom.UNSAFE,
        "The kernel limits a worker's memory, files and core dumps.",
        "Without a limit one hostile original can take the machine's memory.",
        "Allow setrlimit in the container's seccomp profile.",
        _of_worker(_limits),
    ),
    Check(
        "sandbox",
        Subject.MACHINE,
        Symptom.UNSAFE,
        "A worker has no network, opens no files, gains no privileges, and ends with the server.",
        "Decoders read hostile files; a layer that is missing leaves more to a decoder that is taken over.",
        "Use Linux 5.13 or newer, and a container profile that allows Landlock and user namespaces.",
        _of_worker(_sandbox),
    ),
    Check(
        "libvips-version",
        Subject.MACHINE,
        Symptom.UNSAFE,
        "The loaded libvips is the one of the pyvips-binary package.",
        "Another libvips decodes other formats and makes larger files; the server does not start with it.",
        "Reinstall pyvips without the system's libvips headers; the server prints the command.",
        _of_worker(_libvips),
    ),
    Check(
        "libvips-formats",
        Subject.MACHINE,
        Symptom.NOT_LOADING,
        "The loaded libvips decodes JPEG, PNG, WebP, GIF, TIFF and AVIF, which a sample of each shows.",
        "Originals in a format that is not decoded are refused with 415.",
        "Reinstall pyvips-binary; for HEIC and raw files install the extras `heic` and `raw`.",
        _of_worker(_formats),
    ),
)
"""The checks of the machine, in the order of the report."""
