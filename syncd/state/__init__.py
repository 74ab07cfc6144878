"""What syncd remembers, in SQLite: recorded files, unfinished uploads with their parts, failures, totals. The
only SQL. `state.State` has the verbs of files and sources, and says at its top which invariants it keeps; its
attributes have those of uploads (`checkpoints`), failures and actions (`history`) and `audits`. A new column
is a step in `schema` (tables, migrations, a damaged database) and a line in `queries` (rows to nouns and
back); `writer` commits for many threads at once, `unwritten` knows what the disk need not be asked about,
`sqlite` opens connections, and `lock.StateLock` keeps a second process out of the same directory.
"""
