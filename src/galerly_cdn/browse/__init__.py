"""The gallery page: shows a store's galleries at `/`, with its assets and rendition records under `/-/`.

`page` answers the requests, `pagination` assigns photographs to pages, `facts_cache` caches the listing and
the originals' facts. Only this package and `aws.deploy` import jinja2.
"""
