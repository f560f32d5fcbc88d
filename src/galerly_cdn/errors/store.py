"""Defines the errors of stores: what they lack, refuse, or cannot do now. Pure."""

from __future__ import annotations

import errno

from galerly_cdn.errors.galerly_error import GalerlyError
from galerly_cdn.errors.requests import MethodNotAllowed, NotFound, Unavailable


class NoSuchOriginal(NotFound):
    """Cached briefly, so that an upload appears soon."""

    code = "no-such-original"
    public = "There is no photograph of this name."
    max_age_s = 5


class NoSuchUpload(NotFound):
    code = "no-such-upload"
    public = "There is no such upload; it did not arrive, or it was completed."


class ReadOnlyStore(MethodNotAllowed):
    code = "read-only-store"
    public = "The store of photographs is read-only."


class KeyNotHeld(GalerlyError):
    """A key that differs only in case or normalisation, too long a segment, a file in a folder's place."""

    status = 409
    code = "key-not-held"
    public = "The store cannot hold a photograph with exactly this name."


class LooksPrivate(GalerlyError):
    status = 409
    code = "ambiguous-folder"
    public = "Another folder has nearly this name; write its name exactly."


class NoDirectUploads(GalerlyError):  # a folder has no presigned URLs
    status = 409
    code = "no-direct-uploads"
    public = "The store accepts no direct uploads; send the photograph to the CDN."


class OriginalExists(GalerlyError):
    status = 412
    code = "original-exists"
    public = "There is another photograph of this name already; set replace to overwrite it."


class StoreRefused(GalerlyError):
    status = 502
    code = "store-refused"
    public = "The store refused access to the photograph."
    retry_after_s = 10


class ClockSkewed(StoreRefused):
    code = "clock-skew"  # this machine's, so that the store refuses what it signs


class StoreCorrupt(StoreRefused):
    """An object was read twice, and both times it was short or differed from what was stored."""

    code = "store-corrupt"
    public = "The store returned a damaged photograph."


class NotInvalidated(GalerlyError):
    """CloudFront may still serve what was removed from the store."""

    status = 502
    code = "not-invalidated"
    public = "The store was changed, but CloudFront’s cache could not be invalidated; purge again."


class Unsettled(Unavailable):
    """The original changed under every attempt to render it."""

    code = "unsettled"
    public = "The photograph is being replaced; try again in a moment."


class StoreUnreachable(Unavailable):
    code = "store-unreachable"
    public = "The store cannot be reached; try again in a moment."


class StoreSlow(StoreUnreachable):
    code = "store-slow"
    public = "The store did not answer in time; try again in a moment."


class StoreBusy(StoreUnreachable):
    """It answers 429 or 503, which S3 sends with the code SlowDown; a response to HEAD has no code."""

    code = "store-busy"
    public = "The store gets too many requests; try again in a moment."
    retry_after_s = 5


class DiskFault(StoreUnreachable):
    """A fault of this machine's disks and limits, or of a folder that is mounted from another one."""

    code = "disk-fault"
    public = "The disk cannot be used now; try again in a moment."


class DiskFull(DiskFault):
    code = "disk-full"
    public = "The disk is full; try again later."
    retry_after_s = 60


class DiskError(DiskFault):
    code = "disk-error"
    public = "The disk has an error; try again later."
    retry_after_s = 10


class TooManyFiles(DiskFault):
    code = "too-many-files"
    public = "Too many files are open; try again in a moment."


class DiskReadOnly(StoreRefused):
    """A folder that was writable at the start: the kernel does so to a damaged file system."""

    code = "disk-read-only"
    public = "The disk takes no changes now; try again later."
    retry_after_s = 60


_DISK_FAULTS: dict[int, type[GalerlyError]] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EIO: DiskError,
    errno.EMFILE: TooManyFiles,
    errno.ENFILE: TooManyFiles,
    errno.EROFS: DiskReadOnly,
    errno.EACCES: StoreRefused,
    errno.EPERM: StoreRefused,
}


def disk_fault(error: OSError) -> GalerlyError:
    """What an error of the file system means for a store: a `StoreUnreachable` or a `StoreRefused`."""
    return _DISK_FAULTS.get(error.errno or 0, StoreUnreachable)(str(error))
