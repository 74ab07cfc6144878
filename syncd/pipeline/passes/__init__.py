"""Passes through one source that only the operator starts: `adopt` finds out which files the store already
has, `restamp` gives existing objects the properties that are configured now.
"""
