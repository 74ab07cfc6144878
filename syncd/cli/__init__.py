"""What a person types: one module for each command, named like the command. `app` finds the module when its
command is called, `common` is what the commands share, `screen` draws on a terminal."""
