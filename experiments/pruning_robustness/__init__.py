"""On the Effect of Pruning on Adversarial Robustness."""
