"""Searches for tickets."""
