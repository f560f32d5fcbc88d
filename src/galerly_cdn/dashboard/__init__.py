"""Shows operators what a CDN does now, on the admin side's address.

`composition` builds the pages, `site` renders them in their common layout, `login` begins and ends sessions.
Each page is a module with a function that returns its routes.
"""
