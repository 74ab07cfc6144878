"""The command line: one module for each command, named like it. `app` imports the module when its command is
called, `common` is what commands share, `screen` draws on a terminal."""
