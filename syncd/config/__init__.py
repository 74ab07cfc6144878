"""Turns one YAML file into `Settings`, or reports every mistake at once, each with file, line, key, what was
found and what was expected. Call `places.find` and `load.load`; `document` reads YAML and remembers lines,
`reader` finds unknown and missing keys, `values` has the kinds of value. `sources` and `stores` hold the keys
of each section and their rules: a new key is a field of an entry there, and of what the entry makes
(`core.model.Source`, `storage.settings`). No package below knows YAML.
"""
