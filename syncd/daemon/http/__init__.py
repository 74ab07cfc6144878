"""The address on which the daemon shows itself, off unless `http` is set: `server` listens and decides who
may see what, `message` is HTTP as bytes, `routes` says what lies where, `metrics` speaks to Prometheus,
`public` is what needs no token, and `page` is for people, made of `sayings` and `markup`. What it tells and
does is `syncd.daemon.status` and `syncd.daemon.verbs`, as for the command line. Nothing here is imported
where the address is off.
"""
