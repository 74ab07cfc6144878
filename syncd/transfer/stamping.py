"""Changes only metadata: an object is copied onto itself, and its content stays in place."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from syncd.core import plan
from syncd.core.errors import (
    AccessRefused,
    PreconditionFailed,
    StoreError,
    StoreRefused,
)
from syncd.core.model import FileRef, Fingerprint, LinkStat, ObjectInfo, ObjectMeta, Receipt, Recorded
from syncd.core.paths import FOLDER, name_of, printable
from syncd.core.plan import Action, Refresh
from syncd.transfer.in_doubt import Foreigners, InDoubt
from syncd.transfer.keys import Keys
from syncd.transfer.local import Local
from syncd.transfer.reuse import Reuse
from syncd.transfer.upload.part_sender import COPY, Job, content_type_of
from syncd.transfer.upload.uploader import Uploader

log = logging.getLogger("syncd.transfer")


class Stamper:
    """Gives objects of one store other metadata. For any thread."""

    def __init__(
        self,
        uploader: Uploader,
        keys: Keys,
        local: Local,
        reuse: Reuse,
        in_doubt: InDoubt,
        foreigners: Foreigners,
    ) -> None:
        self._uploader = uploader
        self._store = uploader.store
        self._state = uploader.state
        self._slots = uploader.slots
        self._keys = keys
        self._local = local
        self._reuse = reuse
        self._in_doubt = in_doubt
        self._foreigners = foreigners

    def note_left_out(self, job: Job) -> None:
        """Log which extended attributes do not fit the object that was made."""
        names = ", ".join(printable(name) for name in job.left_out)
        log.warning("%s: extended attributes do not fit its object: %s", name_of(job.ref), names)
        self._state.add_totals(xattrs_left_out=len(job.left_out))

    def restamp(self, ref: FileRef, *, dry_run: bool) -> tuple[bool, str]:
        """Give the object of a recorded file the present properties and attributes, if it has others.

        Returns whether it has others that may be replaced, and why they may not; empty: they may. Only the
        recorded object is copied onto itself. Raises StoreError, StateError, KeyBusy, Stopped.
        """
        known, recorded = self._local.sources[ref.source], self._state.recorded(ref)
        if recorded is None or self._keys.aimed(recorded, self._keys.of(ref)) is None:
            return False, ""  # its next upload goes elsewhere
        said = known.properties(ref.path)
        with self._keys.exclusive(ref, recorded.key), self._slots.hold(0):
            if self._keys.is_in_doubt(ref, recorded, self._uploader.unfinished(ref)):
                return False, "its object is to be looked at once more first; call this again later"
            self._keys.still_recorded(ref, recorded)
            info = self._store.head_object(recorded.key)
            content = recorded.fingerprint
            witness = recorded.etag, content.size, content.digest
            # An adopted object has no digest of ours.
            if info is None or (info.etag, info.size, info.digest or content.digest) != witness:
                return False, "its object is not the one that was recorded"
            if self._state.audits.has_rotted(ref):
                return False, "its object has lost its content: syncd verify --repair"
            if plan.is_others(info, self._foreigners.own(known.instance)):
                return False, "its object is another machine's"
            meta = ObjectMeta(
                content,
                info.mtime_ns if info.mtime_ns is not None else recorded.stat.mtime_ns,
                info.token or "",
                said.content_type or content_type_of(ref.path),
                instance=info.instance or known.instance,
                properties=said,
                attributes=self._local.attributes_as_recorded(ref, recorded) or info.attributes,
                is_folder=ref.path.endswith(FOLDER),
            )
            if info.mode is not None:  # a directory gives its copy these permissions
                meta = replace(meta, mode=info.mode)
            meta = _beside_others(meta, info)
            is_same = (info.stamp, info.attributes) == (said.stamp, meta.attributes)
            if is_same or dry_run:
                return not is_same, ""
            self._foreigners.check(ref.source)
            self._replace_by_copy(ref, recorded, info, meta)
        return True, ""

    def dressed(self, action: Action, job: Job, standing: Receipt) -> Receipt:
        """Return the receipt of the object, with a touched file's attributes if the source copies them."""
        recorded = job.aimed
        wants = self._local.sources[job.ref.source].source.copies_attributes and job.attributes is not None
        wants = wants and not isinstance(job.stat, LinkStat)
        if not wants or not isinstance(action, Refresh) or recorded is None or recorded.stat == job.stat:
            return standing
        with self._keys.request_slot(job):
            info, content = self._store.head_object(job.key), job.digests.fingerprint
            if info is None:
                return standing
            meta = _beside_others(job.meta(info.token or ""), info)
            if (
                info.attributes == meta.attributes
                or (info.etag, info.size, info.digest) != (standing.etag, content.size, content.digest)
                or info.instance not in self._foreigners.own(job.instance)
                or not self._uploader.shortcuts.works(COPY)
                or self._state.audits.has_rotted(job.ref)  # a copy would hide that
            ):
                return standing
            self._foreigners.check(job.ref.source)
            try:
                self._replace_by_copy(job.ref, recorded, info, meta)
            except StoreRefused as error:
                if isinstance(error, AccessRefused):
                    raise
                log.info("%s: its attributes wait for the next change: %s", name_of(job.ref), error)
        there = self._state.recorded(job.ref)
        return standing if there is None else Receipt(standing.key, there.etag)

    def stamped(self, job: Job, there: Receipt) -> Receipt:
        """Give an adopted object of another program our metadata, by a copy onto itself.

        If the store refuses that, it stays as it is.
        """
        try:
            with self._keys.request_slot(job):
                before = self._store.head_object(job.key)
                if before is None or before.etag != there.etag:
                    raise PreconditionFailed("the object was replaced since syncd looked at it")
                if before.digest is not None:
                    return there
                self._reuse.onto_itself(job.ref, job.key, _beside_others(job.meta(), before), there.etag)
                after = self._store.head_object(job.key)
        except StoreRefused as error:
            log.info("%s: adopted, and not stamped: %s", name_of(job.ref), error)
            return there
        with self._keys.request_slot(job):
            self._check_content(job.ref, before, after)
        if after is None or (after.digest, after.size) != job.digests.fingerprint:
            raise StoreRefused("its object is not the one that syncd copied", hint="run `syncd verify`")
        return Receipt(job.key, after.etag)

    def _replace_by_copy(
        self, ref: FileRef, recorded: Recorded, before: ObjectInfo, meta: ObjectMeta
    ) -> None:
        """Copy onto itself. The row is in doubt until the ETag of the copy is recorded.

        A refusal does not mean that nothing changed: a repeated request may have met its own copy.
        """
        self._in_doubt.keep(ref, recorded)
        refusal: StoreError | None = None
        with self._in_doubt.changing(ref, recorded):
            try:
                self._reuse.onto_itself(ref, recorded.key, meta, recorded.etag)
            except (StoreRefused, PreconditionFailed) as error:
                refusal = error
        found, content = self._store.head_object(recorded.key), recorded.fingerprint
        self._check_content(ref, before, found)
        meant = content.size, content.digest, meta.instance
        if found is None or (found.size, found.digest, found.instance) != meant:
            raise refusal or StoreRefused(
                "its object is not the one that syncd copied", hint="run `syncd verify`"
            )
        self._state.commit(ref, replace(recorded, etag=found.etag))
        self._in_doubt.settled(ref)
        if refusal is not None and (found.stamp, found.attributes) != (
            meta.properties.stamp,
            meta.attributes,
        ):
            raise refusal

    def _check_content(self, ref: FileRef, before: ObjectInfo, after: ObjectInfo | None) -> None:
        """Raise StoreRefused if the copy has another content than the object that was looked at.

        Another program replaced the object in between, and the server ignored the condition. Then its content
        has our digest in its metadata, which is removed again. ETags that are MD5s are reliable.
        """
        if after is None or None in (before.md5, after.md5) or before.md5 == after.md5:
            return
        nothing = ObjectMeta(Fingerprint(b"", after.size), 0)
        self._reuse.onto_itself(ref, after.key, nothing, after.etag)
        raise StoreRefused("its object is not the one that syncd copied", hint="run `syncd verify`")


def _beside_others(meta: ObjectMeta, info: ObjectInfo) -> ObjectMeta:
    """Return the metadata for a copy of the object onto itself, with everything that another program gave it
    and that syncd does not set.
    """
    said = meta.properties
    named = {
        "/content-type": said.content_type,
        "/cache-control": said.cache_control,
        "/content-encoding": said.content_encoding,
        "/content-disposition": said.content_disposition,
    }
    others = tuple((name, value) for name, value in info.others if not named.get(name))
    if meta.attributes is None or info.attributes is None:
        return replace(meta, others=others)
    # Its metadata is read as extended attributes, too.
    mine, theirs = {name for name, _ in meta.attributes.xattrs}, {f"user.{name}" for name, _ in others}
    more = [each for each in info.attributes.xattrs if each[0] in theirs - mine]
    xattrs = tuple(sorted([*meta.attributes.xattrs, *more]))
    return replace(meta, others=others, attributes=replace(meta.attributes, xattrs=xattrs))
