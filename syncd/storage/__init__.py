"""Object stores: the only place that knows HTTP.

``base`` says what a store is; ``s3`` and ``bos`` are dialects (pure: requests out, responses in) over
``transport``; ``dir`` is a store on a directory; ``client`` joins dialect, transport and retry, and opens
the store that a configuration names.
"""

from syncd.storage.base import ObjectStore, StoreLimits

__all__ = ["ObjectStore", "StoreLimits"]
