"""Flags of the presets of "The Search for Sparse, Robust Neural Networks"."""

PAPER = {
    "data_sets": ["mnist", "fashion_mnist"],
    "data_source": "tfds",
    "model": "lenet_300_100",
    "regimes": ["natural", "fgsm", "pgd"],
    "pruning_strategies": ["original", "random", "continued"],
    "seed": 0,
    "trials": 5,
    "rounds": 20,
    "iterations": 50_000,
    "evaluate_every": 500,
    "batch_size": 60,
    "learning_rate": 1.2e-3,
    "label_smoothing": 0.0,
    "pruning_rate": 0.2,
    "output_pruning_rate": 0.1,
    "rewind_iteration": 0,
    "eps": 0.3,
    "step_size": 0.05,
    "attack_steps": 10,
    "random_start": False,
    "attack_labels": "true",
}
QUICK = PAPER | {
    "data_sets": ["mnist"],
    "data_source": "embedded",
    "pruning_strategies": ["original", "random"],
    "trials": 1,
    "rounds": 12,
    "iterations": 1000,
    "evaluate_every": 250,
}
SMOKE = QUICK | {"rounds": 3, "iterations": 40, "evaluate_every": 20}
PRESETS = {"smoke": SMOKE, "quick": QUICK, "paper": PAPER}
