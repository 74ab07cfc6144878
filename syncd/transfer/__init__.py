"""One file, from the first look to the committed row. `engine.Engine` observes a file, plans, acts and
commits; `uploader.Uploader` puts small files whole and large ones in parts (`part_sender`); `reuse` finds
content that the store already has, and `in_doubt` asks the store about records that may be wrong. `slots` and
`progress` bound and show what is under way, `heartbeat` shows that threads move, `affinity` pins them.
`audit` compares records, store and disk; `orphans` lists unfinished uploads. `restore` is the way back.
"""
