"""Sends the content of one file. `uploader.Uploader` puts a small file whole, and a large one checkpoint by
checkpoint. `part_sender` sends or copies its parts, `ahead` while the file is read for the first time.
`orphans` aborts uploads that nothing will complete.
"""
