"""How much goes on at once, and whether it goes on. `slots` and `progress` bound and show what is under way,
`crew` says how many workers are useful, `heartbeat` shows that threads move, `affinity` pins them to
processors, `refusals` knows which files wait because the store refused them, and `contents` which wait for
another file with the same content.
"""
