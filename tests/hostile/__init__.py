"""Hostile inputs, counted: one module a kind.

Each module has `attempts(scratch)`, which yields the name of an input and a function that tries
it. That returns None if it was handled well, else one line that says what was bad: an exception
that is not for users, a hang, a message of several lines or of over 300 characters, a wrong flag
named, a senseless value accepted, code run out of a file, results lost or silently changed.
"""
