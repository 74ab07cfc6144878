"""What syncd remembers, in SQLite: recorded files, unfinished uploads with their parts, failures, totals.
The only SQL. `state.State` has all the verbs, and says at its top which invariants they keep;
`lock.StateLock` keeps a second process out of the same directory.
"""
