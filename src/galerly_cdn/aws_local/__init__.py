"""Runs our CloudFormation template on one machine: CloudFront, S3, Lambda, IAM roles, EventBridge and SQS.

`galerly-cdn aws local` and the tests use it. It reads the template itself, and refuses every property that it
does not model: ignoring one in silence would make a test pass that fails on AWS.

- `cloudfront/edge.py` handles one viewer request from start to end: read this first.
- `functions/event_rules.py` delivers an upload's event to the functions.
- `stack.py` and `cloudfront_stack.py` start and connect the parts; `photograph_folder.py` starts them for a
  command.
- `cloudformation/properties.py` lists the properties that are ignored, with the reasons.

Not modelled: edge locations and the traffic between them, Origin Shield, TLS versions and ciphers, HTTP/2 and
3, compression, Lambda@Edge, prices, and quotas of request rates. On a miss the whole object is fetched, and a
range is cut from it.
"""
