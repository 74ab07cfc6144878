"""`syncd check`: is everything there that syncd needs, and what has to change. `command` decides which checks
run, `machine` asks about directories and the kernel's limits, `probes` tries out a store, `digests`,
`conditions` and `version_keys` have what they find remembered, `others` looks for another machine that writes
to the same place."""
