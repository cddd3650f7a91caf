"""Data sets as arrays, their splits, and the order in which batches visit them."""
