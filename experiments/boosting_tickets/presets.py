"""Flags of the presets of "Boosting Ticket"."""

PAPER = {
    "study": ["acceleration"],
    "data_set": "cifar10",
    "data_source": "tfds",
    "image_size": 0,
    "train_examples": 0,
    "validation_examples": 0,
    "test_examples": 0,
    "models": [],
    "capacity_models": [f"wide_resnet_34_{width}" for width in (1, 2, 5, 10)]
    + [f"wide_resnet_{depth}_10" for depth in (10, 16, 22, 28)],
    "mnist_models": ["lenet_conv", "vgg_16"],
    "width_multiplier": 1.0,
    "seed": 0,
    "trials": 1,
    "epochs": 100,
    "finding_epochs": 100,
    "batch_size": 0,
    "learning_rate": 0.1,
    "finding_learning_rate": 0.0,
    "finding_learning_rates": ["0.005", "0.01", "0.05", "0.1"],
    "warmup_epochs": 10,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "finders": ["natural", "fgsm", "pgd"],
    "sparsity": 0.8,
    # Those of the published logs.
    "sparsities": [f"0.{percent}" for percent in (18, 32, 45, 56, 65, 73, 80, 87, 92, 98)],
    "score": "magnitude",
    "rounds": 7,
    "eps": 8 / 255,
    "step_size": 2 / 255,
    "attack_steps": 10,
    "random_start": True,
    "attack_mode": "inference",
}
QUICK = PAPER | {
    "data_set": "fashion_mnist",
    "data_source": "embedded",
    "image_size": 32,
    "train_examples": 1500,
    "validation_examples": 200,
    "test_examples": 300,
    "models": ["wide_resnet_10_1"],
    "capacity_models": ["wide_resnet_10_1", "wide_resnet_10_2", "wide_resnet_16_1"],
    "mnist_models": ["lenet_conv", "wide_resnet_10_1"],
    "epochs": 6,
    "finding_epochs": 6,
    "batch_size": 64,
    "warmup_epochs": 1,
    "sparsities": ["0.5", "0.8", "0.9"],
    "rounds": 2,
}
SMOKE = QUICK | {
    "train_examples": 256,
    "validation_examples": 50,
    "test_examples": 50,
    "width_multiplier": 0.25,
    "epochs": 2,
    "finding_epochs": 1,
    "batch_size": 0,
    "warmup_epochs": 0,
}
# The mnist study's own data and attacker (section 4.1), unless flags say otherwise.
MNIST = {
    "data_set": "mnist",
    "image_size": 32,  # VGG-16 needs it.
    "eps": 0.3,
    "step_size": 0.075,
    "warmup_epochs": 0,
}
PRESETS = {"smoke": SMOKE, "quick": QUICK, "paper": PAPER}
