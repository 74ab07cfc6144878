"""Object stores, the only place that knows HTTP: `base` says what a store is, `opening.open_store` makes one
from its settings, `retry` is the only place that repeats requests, `s3` and `bos` are dialects (pure:
requests out, answers in) over what `http` shares, and `dir` is a store in a directory.
"""
