"""S3 and compatible servers: `dialect.S3Dialect` phrases the verbs, `bucket` says where the bucket is,
`signing` signs, `xml` reads answers, and `errors` says what refusals mean. `syncd.storage.bos` has the same
modules.
"""
