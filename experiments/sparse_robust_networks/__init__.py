"""The Search for Sparse, Robust Neural Networks."""
