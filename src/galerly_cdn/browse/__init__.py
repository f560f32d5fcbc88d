"""The page that shows a folder's galleries, for trying things out: `/` and `/-/…`.

`page` answers; `pagination` decides what is on which page; `facts_cache` remembers what is known of the
originals. jinja2 is imported in this folder only.
"""
