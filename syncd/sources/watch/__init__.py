"""inotify -> changed paths, and subtrees to scan. `watcher.Watcher` starts and supervises the thread of
`emitter`, which keeps `tree` and `roots` right and speaks through `reports`. `map`, `agenda` and `gaps` are
pure.
"""
