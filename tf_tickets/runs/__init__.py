"""Run directories, results and TensorBoard events."""
