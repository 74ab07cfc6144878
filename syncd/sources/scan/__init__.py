"""Compares the disk with the records in one pass. `compare.scan` reports what differs; `walk` is the disk's
side, with the second look at what was not met.
"""
