"""What can go wrong, and what the viewer is told of it.

Every error knows its own answer: status, stable code, public sentence, how long it may be cached.
What went wrong inside (`detail`) is for the log and never leaves the machine.

    GalerlyError
    ├── BadRequest           400   MalformedKey · MalformedQuery · MalformedBody · EmptyUpload
    │                              · MalformedChecksum · ChecksumMismatch
    ├── Unauthorized         401
    ├── Forbidden            403   SizeNotAllowed · FormatNotAllowed · CrossSite
    │                              · SignatureRequired · SignatureInvalid · SignatureExpired
    │                              · SignatureTooEarly · SignatureWrongClient
    ├── NotFound             404   UnknownPath · NoSuchOriginal · NoSuchUpload
    ├── MethodNotAllowed     405   ReadOnlyStore
    ├── TooSlow              408   HeadersTooSlow · BodyTooSlow
    ├── KeyNotHeld           409
    ├── NoDirectUploads      409
    ├── OriginalExists       412
    ├── UploadTooLarge       413
    ├── UrlTooLong           414
    ├── Unrenderable         415   UnsupportedFormat · Undecodable · TooManyPixels · TooManyBytes
    │                              · TooManyFrames · TooMuchMemory · Quarantined
    ├── RangeNotSatisfiable  416
    ├── Misdirected          421
    ├── HeadersTooLarge      431
    ├── StoreRefused         502   StoreCorrupt
    ├── NotInvalidated       502
    ├── Unavailable          503   QueueFull · Draining · Unsettled · StoreUnreachable
    │                              · TooManyConnections · TooManyMisses
    ├── RenderFailed         504   RenderTimeout · WorkerDied
    ├── Disconnected         (never served: whoever asked has left, and only the log is told)
    └── CommandError         (never served, the command line tells it)
                                   SettingsError · CdnUnreachable · CdnInterrupted · UnexpectedAnswer
                                   · BuildFailed · UnmodelledProperty · AwsMissing · AwsRefused
                                   · DeploymentFailed
"""

from __future__ import annotations

from galerly_cdn.errors.command import (
    AwsMissing,
    AwsRefused,
    BuildFailed,
    CdnInterrupted,
    CdnUnreachable,
    CommandError,
    DeploymentFailed,
    SettingsError,
    UnexpectedAnswer,
    UnmodelledProperty,
)
from galerly_cdn.errors.photograph import (
    Quarantined,
    TooManyBytes,
    TooManyFrames,
    TooManyPixels,
    TooMuchMemory,
    Undecodable,
    Unrenderable,
    UnsupportedFormat,
)
from galerly_cdn.errors.request import (
    BadRequest,
    BodyTooSlow,
    ChecksumMismatch,
    CrossSite,
    Disconnected,
    EmptyUpload,
    Forbidden,
    FormatNotAllowed,
    HeadersTooLarge,
    HeadersTooSlow,
    KeyNotHeld,
    MalformedBody,
    MalformedChecksum,
    MalformedKey,
    MalformedQuery,
    MethodNotAllowed,
    Misdirected,
    NoDirectUploads,
    NoSuchOriginal,
    NoSuchUpload,
    NotFound,
    OriginalExists,
    RangeNotSatisfiable,
    ReadOnlyStore,
    SignatureExpired,
    SignatureInvalid,
    SignatureRequired,
    SignatureTooEarly,
    SignatureWrongClient,
    SizeNotAllowed,
    TooSlow,
    Unauthorized,
    UnknownPath,
    UploadTooLarge,
    UrlTooLong,
)
from galerly_cdn.errors.root import (
    GalerlyError,
    by_code,
)
from galerly_cdn.errors.server import (
    Draining,
    NotInvalidated,
    QueueFull,
    RenderFailed,
    RenderTimeout,
    StoreCorrupt,
    StoreRefused,
    StoreUnreachable,
    TooManyConnections,
    TooManyMisses,
    Unavailable,
    Unsettled,
    WorkerDied,
)

__all__ = [
    "AwsMissing",
    "AwsRefused",
    "BadRequest",
    "BodyTooSlow",
    "BuildFailed",
    "CdnInterrupted",
    "CdnUnreachable",
    "ChecksumMismatch",
    "CommandError",
    "CrossSite",
    "DeploymentFailed",
    "Disconnected",
    "Draining",
    "EmptyUpload",
    "Forbidden",
    "FormatNotAllowed",
    "GalerlyError",
    "HeadersTooLarge",
    "HeadersTooSlow",
    "KeyNotHeld",
    "MalformedBody",
    "MalformedChecksum",
    "MalformedKey",
    "MalformedQuery",
    "MethodNotAllowed",
    "Misdirected",
    "NoDirectUploads",
    "NoSuchOriginal",
    "NoSuchUpload",
    "NotFound",
    "NotInvalidated",
    "OriginalExists",
    "Quarantined",
    "QueueFull",
    "RangeNotSatisfiable",
    "ReadOnlyStore",
    "RenderFailed",
    "RenderTimeout",
    "SettingsError",
    "SignatureExpired",
    "SignatureInvalid",
    "SignatureRequired",
    "SignatureTooEarly",
    "SignatureWrongClient",
    "SizeNotAllowed",
    "StoreCorrupt",
    "StoreRefused",
    "StoreUnreachable",
    "TooManyBytes",
    "TooManyConnections",
    "TooManyFrames",
    "TooManyMisses",
    "TooManyPixels",
    "TooMuchMemory",
    "TooSlow",
    "Unauthorized",
    "Unavailable",
    "Undecodable",
    "UnexpectedAnswer",
    "UnknownPath",
    "UnmodelledProperty",
    "Unrenderable",
    "Unsettled",
    "UnsupportedFormat",
    "UploadTooLarge",
    "UrlTooLong",
    "WorkerDied",
    "by_code",
]
