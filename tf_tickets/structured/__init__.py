"""Filters and residual blocks: what may go, and networks without them."""
