"""The process that stays: `daemon.Daemon` builds one pipeline and one watcher, then waits for signals. `live`
is what only the running process knows; `status.Status` is everything it says about itself, so a new figure is
a field there, for the table, the JSON and any exporter. `verbs` is what the control socket understands,
`control` the socket, `systemd` the words for the service manager, `process` this process and its machine,
`logs` the lines for people, the journal and programs.
"""
