"""All remedies, and the hazards that must have one."""

from __future__ import annotations

from tests.torture.remedies import caching, http, multipart, reading, scanning, service, statefile, watching
from tests.torture.remedies.kinds import Remedy

REMEDIES: tuple[Remedy, ...] = (
    *watching.REMEDIES,
    *scanning.REMEDIES,
    *reading.REMEDIES,
    *caching.REMEDIES,
    *statefile.REMEDIES,
    *multipart.REMEDIES,
    *http.REMEDIES,
    *service.REMEDIES,
)

HAZARDS: dict[str, str] = {
    # watching
    "W1": "the kernel's event queue overflows and nobody is told",
    "W2": "the reader of events dies and everything looks healthy",
    "W3": "directories are blind or misnamed after folders were moved",
    "W4": "the limit of watches is reached: part of the tree is silent",
    "W5": "a directory that cannot be read is taken for watched, or for empty",
    "W6": "the root is deleted and made anew, or renamed away",
    "W7": "the root is a symbolic link: the link is watched, not the directory",
    "W8": "an unmount or a mount over the root gives no event",
    "W9": "a folder is moved out: phantom events; or in: nobody watches it",
    "W10": "an exception in the handler ends the delivery of events",
    "W11": "warnings print the whole table of watches",
    "W12": "trees that are made quickly are seen in part",
    "W13": "our own reading makes events",
    "W14": "no single event says that the content is there",
    "W16": "names that are not UTF-8, or hold newlines",
    "W20": "changes between the scan and the first watch are lost",
    # scanning
    "S1": "a listing misses files that exist",
    "S2": "an error of a listing looks like emptiness",
    "S3": "not everything is a regular file",
    "S4": "a symbolic link leads a privileged process out of the tree",
    "S5": "a tree that cannot be seen looks like a wish to delete everything",
    "S6": "a name changes its kind, or vanishes, between listing and opening",
    "S7": "two names meet in one key, or a key leads elsewhere",
    # reading
    "T1": "the file changes while it is hashed or sent",
    "T2": "two writes share one timestamp",
    "T3": "the file shrinks or grows while it is sent",
    "T4": "the file is replaced by a rename while it is sent",
    "T5": "a part that is sent again is read again, and is another",
    "T7": "half-written files are sent, and files that are never quiet never",
    # trusting a stat
    "C1": "a record made too soon after a change proves nothing",
    "C2": "the mtime can be set by anybody",
    "C3": "an inode number is used again",
    "C4": "a store through a memory map changes no timestamp",
    # state
    "D1": "a commit is acknowledged before it is durable",
    "D2": "an effect comes before the record that it relies on",
    "D3": "two connections write the state",
    "D4": "a transaction that began as a reader fails at once when it writes",
    "D5": "a damaged, empty or foreign state file is taken for ours",
    "D6": "the disk of the state is full",
    "D7": "a half-done migration, or a state newer than the program",
    "D8": "two daemons share a state",
    "D9": "a file beside the database is half written at a power cut",
    # multipart
    "U1": "the answer to create is lost",
    "U2": "the answer to a part is lost",
    "U3": "the answer to complete is lost",
    "U4": "200 OK is an error",
    "U5": "complete drips its answer",
    "U6": "part sizes that the store refuses after hours",
    "U7": "the upload vanishes in the middle",
    "U8": "a list has more than one page",
    "U9": "an ETag is not an MD5",
    "U10": "what is worth another try is taken for final, or the other way round",
    "U11": "throttling and outages become storms",
    "U12": "the clocks differ",
    "U13": "the bucket is in another region",
    "U16": "a late deletion removes a newer object",
    # HTTP
    "H1": "a redirect is followed with an empty body",
    "H2": "a netrc entry replaces the signature",
    "H3": "an empty body goes out in chunks",
    "H4": "a body shorter than declared hangs",
    "H5": "a peer that makes no progress holds a request for ever",
    "H6": "an early refusal of a large body is lost",
    "H7": "an idle connection was closed by the server",
    "H8": "a body is repeated under an old signature",
    "H10": "a path is normalised after it was signed",
    "H11": "threads share a session",
    "H15": "no answer is taken for a failure",
    # the service
    "O1": "the service manager is told of life where no work is done",
    "O2": "readiness waits for the first scan",
    "O3": "a stop becomes a kill",
    "O4": "a crash loop ends in failure for good, or bad configuration in a loop",
    "O5": "keys in logs, arguments, or readable by others",
    "O6": "the sandbox is weak, or keeps users' files from being read",
    "O7": "the sandbox hides the tree",
}
"""Every hazard that the first release has to meet, by the short name that remedies use."""
