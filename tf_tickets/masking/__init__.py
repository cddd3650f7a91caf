"""Tickets, and the masks that hold a network to one."""
