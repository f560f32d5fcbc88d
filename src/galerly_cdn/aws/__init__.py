"""The third shape: CloudFront → viewer function → S3 → Lambda. boto3's door."""
