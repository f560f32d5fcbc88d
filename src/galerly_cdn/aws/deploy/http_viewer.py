"""Sends a viewer's GET request to the deployed CDN with httpx."""

from __future__ import annotations

import httpx

from galerly_cdn.serialization import Value

_DEADLINE_S = 40.0
"""Above CloudFront's own limit for a miss: at worst 2 × 10 s of S3, then 30 s of the resizer."""


class ViewerResponse(Value, frozen=True):
    """A response; redirects are not followed. If there is none, `status` is 0 and `problem` says why."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    problem: str = ""
    text: str = ""
    """The first 200 characters of a body that is not a picture."""

    @property
    def cache(self) -> str:
        """The result in CloudFront's X-Cache header: `Miss`, `Hit`, `Error`, `RefreshHit`, or empty."""
        return self.headers.get("x-cache", "").partition(" ")[0]

    def __str__(self) -> str:
        if self.problem:
            return f"no response: {self.problem}"
        return f"{self.status} {self.cache}".rstrip()


def fetch(url: str, accept: str = "image/avif,image/webp,*/*") -> ViewerResponse:
    """The response to a GET of `url` with a browser's Accept header. Raises nothing."""
    try:
        response = httpx.get(url, headers={"Accept": accept}, timeout=_DEADLINE_S, follow_redirects=False)
    except httpx.HTTPError as error:
        return ViewerResponse(0, {}, str(error) or type(error).__name__)
    headers = {name.lower(): value for name, value in response.headers.items()}
    is_picture = headers.get("content-type", "").startswith("image/")
    return ViewerResponse(response.status_code, headers, text="" if is_picture else response.text[:200])
