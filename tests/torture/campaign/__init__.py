"""The campaign: the real daemon at work, killed again and again, behind a network that fails in every way."""
