"""Attacks, all as functions from examples and labels to adversarial examples."""
