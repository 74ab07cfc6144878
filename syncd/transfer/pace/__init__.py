"""How much goes on at once, and whether it goes on. `slots` and `progress` bound and show what is under way,
`crew` says how many workers are of use, `heartbeat` shows that threads move, `affinity` pins them to
processors, `refusals` knows which files wait because they were sent in vain, and `contents` which wait for
another one of the same content.
"""
