"""One YAML file -> `Settings`, or every mistake in it at once, each with file, line, key, what was found and
what was expected. `places.find` and `load.load` are the way in; `document` reads YAML and remembers lines,
`reader` finds unknown and missing keys, `values` has the kinds of value. `sources` and `stores` hold the keys
of each section with their rules: a new key is a field of an entry there, and of what the entry makes
(`core.model.Source`, `storage.settings`). Nothing below this package knows YAML.
"""
