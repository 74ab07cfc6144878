"""syncd: carries the files of watched folders to an object store, resumably.

The map of the house; imports point downward only (``pyproject.toml`` holds the contract)::

    ENTRY   cli       arguments, exit codes, what a person sees
            daemon    builds every object once; threads, signals, systemd
            config    YAML -> frozen settings; every mistake at once
    SHELL   engine    one step for one file: observe, plan, transfer, commit
            watch     inotify events -> dirty files
            scan      walk a source, compare with the state -> dirty files
            transfer  carry out an upload: single put or multipart, checkpoint by checkpoint
            fingerprint  stat and content hash of one file
            state     SQLite: the only SQL
            storage/  the only place that knows HTTP
    CORE    plan, parts, settle, backoff, paths: decide everything, touch nothing
    NOUNS   model, errors
"""

__version__ = "0.1.0"
