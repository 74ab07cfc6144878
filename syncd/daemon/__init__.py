"""The process that stays: `daemon.Daemon` builds one pipeline and one watcher, then waits for signals. `live`
holds what only the running daemon knows. `status.Status` is everything that it reports about itself: a new
figure is a field there, for the table, the JSON and any exporter. `control` is the control socket, `verbs`
what it understands, `systemd` the messages to the service manager, `process` this process and its machine,
`logs` the log lines for people, the journal and programs.
"""
