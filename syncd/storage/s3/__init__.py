"""S3 and what speaks like it: `dialect.S3Dialect` phrases the verbs, `bucket` says where the bucket is,
`signing` signs, `xml` reads answers, and `errors` says what refusals mean. `syncd.storage.bos` has the same
modules.
"""
