"""One file, from the first look to the committed row. `engine.Engine` looks at a path (`local`) and removes
the object of a missing file. `carrier.Carrier` reads a file, plans, acts and commits, under the key of its
object (`keys`). `upload` sends content; `reuse` finds content that the store already has, `stamping` changes
only metadata, and `in_doubt` asks the store about records that may be wrong. `pace` bounds and shows what is
under way. `audit` compares records, store and disk. `restore` is the way back.
"""
