"""CloudFront, Lambda, roles and events on one machine, as our template has them: an instrument for tests.

It reads the template itself and refuses what it does not model: silence is how doubles lie. `edge.py` is one
request from top to bottom, `events.py` the way from an upload to a function; `app.py` and `chain.py` put the
parts together, `properties.py` says what is left out and why.

Out of scope: locations and what travels between them, Origin Shield, TLS versions and ciphers, HTTP/2 and 3,
compression, Lambda@Edge, prices, quotas of rates. A range is cut of the whole object, which a miss fetches.
"""
