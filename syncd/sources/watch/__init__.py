"""inotify -> changed paths, and subtrees to scan. `watcher.Watcher` starts and supervises the thread of
`emitter`, which keeps `tree` and `roots` up to date and reports through `reports`. `map`, `agenda` and `gaps`
are pure.
"""
