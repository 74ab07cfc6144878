"""The command line: one module for each command, named like it. `app` finds the module when its command is
called, `common` is what the commands share, `screen` draws on a terminal."""
