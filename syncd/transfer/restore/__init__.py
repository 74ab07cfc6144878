"""Brings objects back as files: `restore.Restore` works off what `wanted` finds in the records or in a
listing. `download` fetches and proves one object, `folder` is where it goes, and `draft` is the file until it
is proven.
"""
