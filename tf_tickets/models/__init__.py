"""The papers' networks, as plain Keras models that return logits."""
