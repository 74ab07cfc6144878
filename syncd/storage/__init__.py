"""Object stores; no other package uses HTTP. `base` defines what a store is, `opening.open_store` opens one
from its settings, `retry` is the only place that repeats requests, `s3` and `bos` are dialects (pure:
requests out, answers in) over what `http` shares, and `dir` is a store in a directory.
"""
