"""What can go wrong, and what the viewer is told of it.

Every error knows its own answer: status, stable code, public sentence, how long it may be cached.
What went wrong inside (`detail`) is for the log and never leaves the machine.

    GalerlyError
    ├── BadRequest           400   MalformedKey · EmptyUpload · ChecksumMismatch
    ├── Forbidden            403   SizeNotAllowed · FormatNotAllowed · SignatureRequired
    │                              · SignatureInvalid · SignatureExpired · SignatureTooEarly
    │                              · SignatureWrongClient
    ├── NotFound             404   UnknownPath · NoSuchOriginal
    ├── MethodNotAllowed     405   ReadOnlyStore
    ├── TooSlow              408   HeadersTooSlow · BodyTooSlow
    ├── KeyNotHeld           409
    ├── OriginalExists       412
    ├── UploadTooLarge       413
    ├── UrlTooLong           414
    ├── Unrenderable         415   UnsupportedFormat · Undecodable · TooManyPixels · TooManyBytes
    │                              · TooManyFrames · TooMuchMemory · Quarantined
    ├── RangeNotSatisfiable  416
    ├── HeadersTooLarge      431
    ├── StoreRefused         502   StoreCorrupt
    ├── Unavailable          503   QueueFull · Draining · Unsettled · StoreUnreachable
    │                              · TooManyConnections · TooManyMisses
    ├── RenderFailed         504   RenderTimeout · WorkerDied
    ├── BuildFailed          (never served: the command line prints it and exits with 1)
    ├── Disconnected         (never served: whoever asked has left, and only the log is told)
    └── SettingsError        (never served: the command line prints it and exits with 2)
"""

from __future__ import annotations

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
    Disconnected,
    EmptyUpload,
    Forbidden,
    FormatNotAllowed,
    HeadersTooLarge,
    HeadersTooSlow,
    KeyNotHeld,
    MalformedKey,
    MethodNotAllowed,
    NoSuchOriginal,
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
    UnknownPath,
    UploadTooLarge,
    UrlTooLong,
)
from galerly_cdn.errors.root import (
    BuildFailed,
    GalerlyError,
    SettingsError,
    by_code,
)
from galerly_cdn.errors.server import (
    Draining,
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
    "BadRequest",
    "BodyTooSlow",
    "BuildFailed",
    "ChecksumMismatch",
    "Disconnected",
    "Draining",
    "EmptyUpload",
    "Forbidden",
    "FormatNotAllowed",
    "GalerlyError",
    "HeadersTooLarge",
    "HeadersTooSlow",
    "KeyNotHeld",
    "MalformedKey",
    "MethodNotAllowed",
    "NoSuchOriginal",
    "NotFound",
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
    "Unavailable",
    "Undecodable",
    "UnknownPath",
    "Unrenderable",
    "Unsettled",
    "UnsupportedFormat",
    "UploadTooLarge",
    "UrlTooLong",
    "WorkerDied",
    "by_code",
]
