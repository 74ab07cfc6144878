"""Probes of a store's whole objects: what `syncd check --thorough` asks beside uploads."""

from __future__ import annotations

from functools import partial

from syncd.cli.check.bench import MTIME_NS, Bench, Outcome, said
from syncd.core.errors import PreconditionFailed, StoreRefused

_ODD_NAME = "a b+c%20&?=#'\"\u4e2d\u6587~!(),;@$.txt"
_HELLO = b"hello from syncd check"


def metadata(bench: Bench) -> Outcome:
    """Digest, mtime to the nanosecond and token come back with the object."""
    key = bench.key("metadata")
    meta = bench.meta(_HELLO)
    bench.store.put_object(key, _HELLO, meta)
    info = bench.store.head_object(key)
    if info is None:
        return False, "the object just put is not there"
    if (info.digest, info.token) != (meta.fingerprint.digest, meta.token):
        return False, "digest or token do not come back: a lost state database could not be rebuilt"
    if info.mtime_ns != MTIME_NS:
        return None, f"the mtime comes back as {info.mtime_ns}, not as {MTIME_NS}"
    return True, "digest, mtime and token come back"


def empty(bench: Bench) -> Outcome:
    """An object without content."""
    key, _ = bench.put("empty", b"")
    difference = bench.differs(key, b"")
    return difference is None, difference or "0 bytes"


def odd_names(bench: Bench) -> Outcome:
    """Names that need every kind of encoding, a double slash and the longest key."""
    longest = "x" * (bench.store.limits.max_key_bytes - len(bench.place.encode()))
    troubles = []
    for name in (_ODD_NAME, "double//slash", "trailing dot.", "line\nfeed", longest):
        refused = bench.refusal(partial(bench.put, name, _HELLO), StoreRefused)
        trouble = str(refused) if refused else bench.differs(bench.place + name, _HELLO)
        if trouble is not None:
            troubles.append(f"{name[:20]!r}: {trouble}")
    return (None, "; ".join(troubles)) if troubles else (True, "all taken and found again")


def ranges(bench: Bench) -> Outcome:
    """Ranges with both ends included."""
    key, _ = bench.put("ranges", _HELLO)
    found = bench.store.get_object(key, 6, 9)
    return found == _HELLO[6:10], f"bytes 6 to 9 are {found!r}"


def overwrite(bench: Bench) -> Outcome:
    """The second put replaces the first, and is seen at once."""
    key, _ = bench.put("overwrite", b"first")
    bench.put("overwrite", _HELLO)
    difference = bench.differs(key, _HELLO)
    return difference is None, difference or "the second content is there at once"


def absent(bench: Bench) -> Outcome:
    """What is not there: head says so, get is refused, delete is done, twice as well."""
    key, _ = bench.put("absent", _HELLO)
    bench.store.delete_object(key)
    bench.store.delete_object(key)
    if bench.store.head_object(key) is not None:
        return False, "a deleted object is still there"
    refused = bench.refusal(lambda: bench.store.get_object(key, 0, 0), StoreRefused)
    if refused is None:
        return False, "a deleted object can still be read"
    return True, f"get of a missing object: {said(refused)}"


def copy(bench: Bench) -> Outcome:
    """A copy inside the store, with new metadata."""
    source, receipt = bench.put("copy source", _HELLO)
    key = bench.key("copy target")
    meta = bench.meta(_HELLO)
    bench.store.copy_object(source, key, meta, receipt.etag)
    difference = bench.differs(key, _HELLO)
    info = bench.store.head_object(key)
    if difference is None and (info is None or info.token != meta.token):
        difference = "the copy has the source's metadata, not its own"
    return difference is None, difference or "with new metadata"


def conditional_copy(bench: Bench) -> Outcome:
    """A copy from a source that is another one than meant."""
    source, _ = bench.put("condition source", _HELLO)
    key = bench.key("condition target")
    refused = bench.refusal(
        lambda: bench.store.copy_object(source, key, bench.meta(_HELLO), "0" * 32), PreconditionFailed
    )
    if refused is None:
        return None, "the store ignores the condition: syncd checks what came of a copy"
    return True, f"a changed source is refused: {said(refused)}"
