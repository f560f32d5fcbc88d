"""What does a viewer get at an address? httpx's door to the deployed CDN."""

from __future__ import annotations

import httpx

from galerly_cdn.serialization import Value

_DEADLINE_S = 40.0
"""CloudFront's own for a miss is 30 s of the resizer after 2 × 10 s of S3 at the worst."""


class ViewerResponse(Value, frozen=True):
    """An answer, not followed where it redirects. Without one, `status` is 0 and `problem` says why."""

    status: int
    headers: dict[str, str]
    """By lower-case names."""
    problem: str = ""
    text: str = ""
    """The beginning of what is no picture."""

    @property
    def cache(self) -> str:
        """What CloudFront says of its cache: `Miss`, `Hit`, `Error`, `RefreshHit`; else empty."""
        return self.headers.get("x-cache", "").partition(" ")[0]

    def __str__(self) -> str:
        if self.problem:
            return f"no answer: {self.problem}"
        return f"{self.status} {self.cache}".rstrip()


def fetch(address: str, accept: str = "image/avif,image/webp,*/*") -> ViewerResponse:
    """What GET is answered at `address`, by a browser's `Accept`."""
    try:
        answer = httpx.get(address, headers={"Accept": accept}, timeout=_DEADLINE_S, follow_redirects=False)
    except httpx.HTTPError as error:
        return ViewerResponse(0, {}, str(error) or type(error).__name__)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    is_picture = headers.get("content-type", "").startswith("image/")
    return ViewerResponse(answer.status_code, headers, text="" if is_picture else answer.text[:200])
