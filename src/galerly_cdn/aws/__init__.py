"""The third shape: CloudFront → viewer function → S3 → Lambda, and what is uploaded to make it."""
