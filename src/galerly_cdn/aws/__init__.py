"""The AWS shape: CloudFront → viewer function → S3 → Lambda. Its functions, its template, its deployment."""
