"""Says what an operator does about each error; docs/errors.md is made from this table too. Pure."""

from __future__ import annotations

_PAGES = "Correct the page or program that requests it."
_CLIENT = "Nothing, unless one client of yours sends many: then correct it."
_STORE = "Run `galerly-cdn doctor --store`; the access log has the store’s own words."
_ORIGINAL = "Replace the photograph by a sound one, or delete it."
_LIMIT = "Upload a smaller photograph, or raise {}."
_UPLOAD = "Correct the upload as the sentence says."

ADVICE = {
    "bad-request": _CLIENT,
    "checksum-mismatch": "Upload it again; if it happens often, look at the network.",
    "malformed-body": "Compare the body with /openapi.json.",
    "malformed-query": "Compare the parameters with /openapi.json.",
    "malformed-checksum": _UPLOAD,
    "empty-upload": _UPLOAD,
    "malformed-key": f"A key has no empty segment and none that begins with a dot. {_PAGES}",
    "unauthorized": "Use a token of the file that `admin_token_file` names.",
    "forbidden": _CLIENT,
    "signature-wrong-client": "Make the link without an address, or for the viewer’s network.",
    "signature-too-early": "Compare the clocks of this machine and of the one that signs.",
    "signature-expired": "Make a new link; give it a longer lifetime if this happens often.",
    "signature-invalid": "Compare `public_keys` and `public_urls` with the key and the address that sign.",
    "signature-required": "Sign the links to this gallery, or take it out of `private_prefixes`.",
    "csrf-token-mismatch": "Load the page again.",
    "cross-site": "Open the address in a window of its own. A proxy has to pass `Host` and `Origin`.",
    "format-not-allowed": "Add the format to the size in `sizes`, or correct the page that requests it.",
    "size-not-allowed": "Add the size to `sizes`, or correct the page. Many from one client are a sweep.",
    "not-found": _PAGES,
    "no-such-upload": "Upload it again.",
    "no-such-original": "Upload the photograph, or remove the links to it.",
    "unknown-path": _CLIENT,
    "method-not-allowed": _CLIENT,
    "read-only-store": "Start the server with `--store`, or with `--writable`.",
    "too-slow": _CLIENT,
    "body-too-slow": "Upload it again on a faster connection.",
    "headers-too-slow": _CLIENT,
    "no-direct-uploads": "Send the photograph to the CDN: PUT /originals/….",
    "ambiguous-folder": "Write the folder’s name as the private prefix has it.",
    "key-not-held": "Choose another name, which differs in more than case.",
    "original-exists": "Set replace if the photograph is to be overwritten.",
    "upload-too-large": _LIMIT.format("`max_original_bytes`"),
    "url-too-long": _CLIENT,
    "unrenderable": _ORIGINAL,
    "quarantined": f"It crashed two workers. {_ORIGINAL}",
    "too-much-memory": _LIMIT.format("`worker_memory_bytes`"),
    "too-many-frames": "Upload a shorter animation.",
    "too-many-bytes": _LIMIT.format("`max_original_bytes`"),
    "too-many-pixels": _LIMIT.format("`max_megapixels`"),
    "undecodable": _ORIGINAL,
    "unsupported-format": "Upload it in an accepted format; HEIC and raw files need an extra.",
    "range-not-satisfiable": _CLIENT,
    "misdirected": "Open the address by this machine’s own name, or set `admin_token_file`.",
    "too-many-logins": "Wait a minute. If it was not you, look for the client in the audit log.",
    "headers-too-large": _CLIENT,
    "internal": "Look the request up in the server’s log, and report the traceback.",
    "not-invalidated": "Purge again; the log says what CloudFront refused.",
    "store-refused": f"Check the permissions. {_STORE}",
    "store-corrupt": f"Compare the object with its copy. {_STORE}",
    "clock-skew": "Set this machine’s clock by NTP.",
    "unavailable": "Nothing, if it is over; else look at the page Now.",
    "too-many-connections": "Raise `max_connections`, or put a proxy in front.",
    "too-many-misses": "Warm the gallery; raise `misses_per_minute` if these are your viewers.",
    "store-unreachable": _STORE,
    "unsettled": "Nothing: the photograph is being replaced. If it lasts, find who replaces it.",
    "draining": "Nothing: the server was stopping.",
    "queue-full": "Warm galleries before they open; add workers or machines.",
    "render-failed": _ORIGINAL,
    "worker-died": "Replace or delete the photograph if it happens again. Else look at the machine’s memory.",
    "render-timeout": "Raise `render_deadline_s`, add CPU, or upload a smaller photograph.",
}
"""By error code."""
