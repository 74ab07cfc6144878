"""The address on which the daemon shows itself, off unless `http` is set: `server` listens and decides who
may see what, `message` is HTTP as bytes, `routes` maps paths to handlers, `metrics` is for Prometheus,
`public` needs no token, and `page` is for people, made of `sayings` and `markup`. Its contents and actions
are those of `syncd.daemon.status` and `syncd.daemon.verbs`, as for the command line. Nothing here is imported
while the address is off.
"""
