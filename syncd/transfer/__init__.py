"""One file, from the first look to the committed row. `engine.Engine` observes a file, plans, acts and
commits; `uploader.Uploader` puts small files whole and large ones in parts (`part_sender`); `reuse` finds
content that the store already has, and `in_doubt` the records that the store has to confirm. `slots` and
`progress` bound and show what is under way. `audit` compares records, store and disk; `orphans` lists
unfinished uploads.
"""
