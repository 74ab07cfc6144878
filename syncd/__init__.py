"""syncd uploads the files of watched folders to an object store, resumably.

::

                         cli/        what you type
                          │
                        daemon/      the process that stays
                          │
          config/ ────────┤          one YAML file -> Settings
                          │
                      pipeline/      threads, and the queue between them
                          │
       sources/  ───►  transfer/  ───►  storage/
       the watched     one file, from   the stores:
       folders         look to commit   dir, s3, bos
                          │
                        state/       what syncd remembers (SQLite)

                        core/        what syncd decides: pure

    watch ─┐
           ├─► settle ──► look, fingerprint ──► plan ──► upload ──► commit
    scan  ─┘

``cli``       one module for each command, and what the commands share.
``daemon``    builds one pipeline and one watcher, then waits: signals, systemd, control socket, status.
``config``    turns one YAML file into settings, or reports every mistake in it at once.
``pipeline``  runs a thread for each source and threads for each store, and passes files through a queue.
``transfer``  brings one file from the first look to the committed row, and an object back into a folder.
``sources``   finds out what changed in the watched folders, and reads files from them.
``state``     remembers what the stores have confirmed; the only SQL.
``storage``   speaks to the stores; the only place that knows HTTP.
``core``      decides everything and touches nothing: no clock, disk, thread, network or log.

A package imports only from packages further down in this list; ``config`` and ``pipeline`` do not know each
other, nor do ``state`` and ``storage``. ``pyproject.toml`` holds the contract, and `lint-imports` checks it.
"""

__version__ = "0.1.0"
