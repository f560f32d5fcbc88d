"""The redirects of old addresses of other servers, made by nginx, as the tables of the pages say."""

from __future__ import annotations

import http.client
import re
from pathlib import Path

import pytest

from galerly_cdn.http.urls import AllowList, parse
from galerly_cdn.settings.table import Settings
from tests.support import nginx

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("from-*.md"))
ALLOWED = AllowList(Settings().size_rules)
CONFIGURATION = """\
events {{}}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        absolute_redirect off;
        {rules}
        location / {{ return 404; }}
    }}
}}
"""


@pytest.mark.server("nginx")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_old_address_is_redirected_to_the_new_one(page: Path, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    (rules,) = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    addresses = re.findall(r"^\| `(/\S+)` \| `(/resize/\S+)` \|$", text, re.MULTILINE)
    assert len(addresses) > 2
    port = nginx.free_port()
    with nginx.running(tmp_path, CONFIGURATION.format(port=port, rules=rules), port):
        redirects = {old: _redirect(port, old) for old, _ in addresses}
        others = [_redirect(port, path) for path in ("/", "/resize/800x600/a.jpg", "/unsafe/300x200/a.jpg")]
    assert redirects == {old: (301, new) for old, new in addresses}
    assert others == [(404, "")] * 3
    for _, new in addresses:
        parse(new.encode(), ALLOWED)


def _redirect(port: int, path: str) -> tuple[int, str]:
    """The status of an address, and where it is redirected to."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers["Location"] or ""
    finally:
        connection.close()
