"""CloudFront, S3's guard and Lambda on one machine, as our template describes them: an instrument for tests.

It reads the template itself and refuses what it does not model: silence is how doubles lie.
"""
