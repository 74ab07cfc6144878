"""What syncd knows and decides. Pure: no clock, disk, thread, network or log. `model` has the nouns,
`errors` the exceptions and what each means for file, store and daemon, `plan.decide` the action for one file,
`parts` how a file is cut and an upload resumes, `settle.DirtyFiles` which files are due, `schedule` when a
source is scanned, `deletions.Deletions` which objects may go, `backoff` how long to wait before the next try,
`patterns.Rules` which paths are wanted, `paths` which key a path has.
"""
