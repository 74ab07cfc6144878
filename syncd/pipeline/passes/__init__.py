"""Passes through one source that are made only when the operator asks for them: `adopt` finds out which files
the store has already, `restamp` gives objects that are there the properties that the configuration says now.
"""
