"""Baidu BOS by its native API: `dialect.BosDialect` phrases the verbs, `bucket` says where the bucket is,
`signing` signs, `values` reads answers, and `errors` says what refusals mean. `syncd.storage.s3` has the
same modules, with `xml` for `values`.
"""
