"""The process that stays: `daemon.Daemon` builds one pipeline and one watcher, then waits for signals. `live`
is what only the running process knows, `status.Status` what it says about itself, `verbs` what the control
socket understands, `control` the socket, `systemd` the words for the service manager, `process` this process
and its machine, `logs` the lines for people, the journal and programs.
"""
