"""A store in a plain directory: `store.DirStore` has the verbs, `root` checks that it is the right directory,
`tree` maps keys to paths, `record` keeps metadata, `uploads` has multipart uploads, `listing` walks, and
`files` holds the system calls.
"""
