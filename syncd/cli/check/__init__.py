"""`syncd check`: finds what syncd lacks, and what to change. `command` decides which checks run, `machine`
checks directories and the kernel's limits, `probes` tries out a store, `digests`, `conditions` and
`version_keys` record what they find, `others` looks for another machine that writes to the same place."""
