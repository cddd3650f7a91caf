"""Boosting Ticket."""
