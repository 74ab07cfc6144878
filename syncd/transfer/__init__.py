"""One file, from the first look to the committed row. `engine.Engine` observes a file (`local`), plans, acts
and commits, or removes an object, under its key (`keys`); `uploader.Uploader` puts small files whole and
large ones in parts (`part_sender`); `reuse` finds content that the store already has, `stamping` changes
metadata alone, and `in_doubt` asks the store about records that may be wrong. `pace` bounds and shows what
is under way. `audit` compares records, store and disk; `orphans` lists unfinished uploads. `restore` is the
way back.
"""
