"""The disk beside the records, in one pass. `compare.scan` reports what differs; `walk` is the disk's side
of it, with the second look at what was not met.
"""
