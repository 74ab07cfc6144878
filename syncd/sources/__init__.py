"""The watched folders: what changed in them, and how their files are read. `watch.watcher.Watcher` turns the
kernel's events into changed paths and subtrees to scan. `scan.compare.scan` compares a folder with its
records. `root` says whether a root is the known directory. `files.open_file` opens one file without following
a link, and `fingerprint.compute` digests it.
"""
