"""What syncd knows and decides. Pure: no clock, disk, thread, network or log. `model` has the nouns,
`errors` the exceptions and what each means, `plan.decide` the action for one file, `parts` how a file is
cut and an upload resumes, `settle.DirtyFiles` which files are due, `deletions.Deletions` which objects may
go, `schedule` when a source is scanned, `patterns.Rules` which paths are wanted.
"""
