"""One YAML file -> `Settings`, or every mistake in it at once, each with file, line, key, what was found and
what was expected. `load.find` and `load.load` are the way in; `stores` and `sources` hold the keys of each
section with their rules and settings; to add a key, add a field to an entry there (or in `reader`) and to its
settings. Nothing below this package knows YAML.
"""
