"""Drawn people: a data set without real persons."""
