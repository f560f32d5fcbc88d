"""Signs links to a private gallery, for a time and a network, as `galerly-cdn sign --gallery` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.access.policy import Policy, gallery_resource, parse_network, parse_time
from galerly_cdn.admin.routes import Route
from galerly_cdn.dashboard.galleries import GALLERIES_PATH
from galerly_cdn.dashboard.photograph import time_text
from galerly_cdn.errors import MalformedBody, MalformedKey
from galerly_cdn.http.urls import checked_key, format_path
from galerly_cdn.model import Target
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.access.signing import Signer
    from galerly_cdn.admin.request import AdminRequest
    from galerly_cdn.dashboard.pictures import Pictures
    from galerly_cdn.dashboard.site import Site
    from galerly_cdn.http.responses import Response
    from galerly_cdn.library import Listing
    from galerly_cdn.settings.table import Settings

LINKS_PATH = f"{GALLERIES_PATH}/links"
_MAX_DAYS = 3650


class LinkQuery(Value, frozen=True):
    """The gallery that the form begins with."""

    gallery: str = ""


class LinkForm(Value, frozen=True):
    """The fields of the form; `expires` is as in `galerly-cdn sign`, `ip` a network or empty."""

    gallery: str = ""
    expires: str = ""
    ip: str = ""


class SignedLink(NamedTuple):
    """A signature for a gallery, and the address of its first photograph with it."""

    url: str
    query: str
    gallery: str
    expires: str
    network: str


class SignedLinksPage:
    """The page *Signed link*. `signer` is None where the settings name no key. `now_s` is of the epoch."""

    def __init__(
        self,
        settings: Settings,
        library: Listing,
        pictures: Pictures,
        *,
        signer: Signer | None,
        now_s: Callable[[], float],
    ) -> None:
        self._public_url = next(iter(settings.public_urls), "")
        self._folders = private_folders(settings.private_prefixes)
        self._library = library
        self._size = pictures.large
        self._signer = signer
        self._now_s = now_s

    def routes(self, site: Site) -> tuple[Route, ...]:
        """The routes of the page and of signing, which is logged as a change is."""

        async def sign(request: AdminRequest) -> Response:
            return await self._sign(site, request)

        return (
            site.view(LINKS_PATH, "links.html", self._form),
            Route("POST", LINKS_PATH, sign, "Sign a link", {}),
        )

    async def _form(self, request: AdminRequest) -> Mapping[str, object]:
        return {
            "gallery": request.parse_query(LinkQuery).gallery,
            "can_sign": self._signer is not None,
            "folders": self._folders,
            "link": None,
            "problems": {},
        }

    async def _sign(self, site: Site, request: AdminRequest) -> Response:
        """The signed link; 400 with a sentence for each field that is wrong."""
        form = await request.form(LinkForm)
        request.subject = form.gallery
        policy, problems = self._policy(form)
        link = await self._link(policy, form.gallery) if policy else None
        if policy and link is None:
            problems["gallery"] = "There is no photograph in this gallery."
        request.outcome = "signed"
        if link is None:
            request.error = MalformedBody(" ".join(problems.values()))
        return await site.render(
            request, "link_made.html", {"link": link, "problems": problems}, 200 if link else 400
        )

    def _policy(self, form: LinkForm) -> tuple[Policy | None, dict[str, str]]:
        """The policy, or what is wrong with each field."""
        problems: dict[str, str] = {}
        now_s = int(self._now_s())
        expires_s, network = 0, None
        if problem := self._gallery_problem(form.gallery):
            problems["gallery"] = problem
        try:
            expires_s = parse_time(form.expires.strip(), now_s)
            if not now_s < expires_s <= now_s + _MAX_DAYS * 86_400:
                problems["expires"] = f"The end has to be in the next {_MAX_DAYS} days."
        except ValueError as error:
            problems["expires"] = str(error)
        try:
            network = parse_network(form.ip.strip()) if form.ip.strip() else None
        except ValueError as error:
            problems["ip"] = f"{error}."
        if self._signer is None:
            problems["gallery"] = "The settings name no signing_key."
        if problems:
            return None, problems
        resource = gallery_resource(self._public_url, form.gallery)
        return Policy(resource=resource, expires_s=expires_s, network=network), problems

    def _gallery_problem(self, gallery: str) -> str:
        """Why no link to a gallery can be signed; empty if one can."""
        try:
            checked_key(f"{gallery}/x")
        except MalformedKey:
            return "This is no name of a gallery: write `clients/smith`."
        folder = next((one for one in self._folders if f"{gallery}/".startswith(one)), None)
        if folder is None:
            return "This gallery is public: its addresses need no signature."
        if gallery.removeprefix(folder).count("/") or f"{gallery}/" == folder:
            return "A private gallery is directly in its private folder: `clients/smith`."
        return ""

    async def _link(self, policy: Policy, gallery: str) -> SignedLink | None:
        """The link of a gallery; None if it has no photograph."""
        listed = (await self._library.list(f"{gallery}/", limit=1)).originals
        if not listed or self._signer is None:
            return None
        path = format_path(Target(self._size), listed[0].key).replace("*", "%2A")
        url = self._signer.url(self._public_url + path, policy)
        return SignedLink(
            url, url.partition("?")[2], gallery, time_text(policy.expires_s), policy.network or ""
        )
