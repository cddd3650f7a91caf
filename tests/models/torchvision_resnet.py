"""torchvision's ResNet-50, as a state dict from NumPy and as a network in PyTorch."""

from collections.abc import Mapping

import numpy as np

BLOCKS = (3, 4, 6, 3)

NARROW_WIDTH = 4

IMAGENET_NORMALIZER = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OTHER_NORMALIZER = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
# (mean, std) → pytorch_logits(narrow_state_dict(), images(37, 45), mean, std) by PyTorch 2.13;
# pretrained_pytorch_test.py computes them anew.
NARROW_LOGITS = {
    IMAGENET_NORMALIZER: [[3.9099717, 2.787069, -1.3240266], [3.998259, 2.8286903, -1.1687636]],
    OTHER_NORMALIZER: [[3.7189317, 2.7031472, -1.302912], [3.7820654, 2.777726, -1.1727252]],
}


def state_dict(width: int, num_classes: int) -> dict[str, np.ndarray]:
    """Random weights and BatchNorm statistics, the same for ever, under torchvision's names.

    Args:
      width: filters of the first stage; 64 for the real network.
      num_classes: size of the output.
    """
    random = np.random.RandomState(0)  # Of all generators the one that will never change.
    arrays = {}

    def convolution(name, outputs, inputs, size):
        values = random.standard_normal((outputs, inputs, size, size))
        arrays[f"{name}.weight"] = values * np.sqrt(1 / (inputs * size * size))

    def norm(name, channels):
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.5, 0.5),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 1.5),
        ):
            arrays[f"{name}.{part}"] = random.uniform(low, high, channels)
        arrays[f"{name}.num_batches_tracked"] = np.array(7, np.int64)

    convolution("conv1", width, 3, 7)
    norm("bn1", width)
    inputs = width
    for stage, blocks in enumerate(BLOCKS):
        filters = width * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            sizes = [(inputs, filters, 1), (filters, filters, 3), (filters, 4 * filters, 1)]
            for number, (channels_in, channels_out, size) in enumerate(sizes, start=1):
                convolution(f"{name}.conv{number}", channels_out, channels_in, size)
                norm(f"{name}.bn{number}", channels_out)
            if block == 0:
                convolution(f"{name}.downsample.0", 4 * filters, inputs, 1)
                norm(f"{name}.downsample.1", 4 * filters)
            inputs = 4 * filters
    arrays["fc.weight"] = random.standard_normal((num_classes, inputs)) / np.sqrt(inputs)
    arrays["fc.bias"] = random.standard_normal(num_classes)
    return {
        name: array if array.dtype == np.int64 else array.astype(np.float32)
        for name, array in arrays.items()
    }


def narrow_state_dict() -> dict[str, np.ndarray]:
    """Of three classes."""
    return state_dict(NARROW_WIDTH, 3)


def in_robustness_library(arrays, normalizer):
    """A state dict of the library's AttackerModel, wrapped in DataParallel."""
    mean, std = (np.float32(values).reshape(3, 1, 1) for values in normalizer)
    model = {f"model.{name}": array for name, array in arrays.items()}
    return {
        f"module.{name}": array
        for name, array in {
            "normalizer.new_mean": mean,
            "normalizer.new_std": std,
            **model,
            "attacker.normalize.new_mean": mean,
            "attacker.normalize.new_std": std,
            **{f"attacker.{name}": array for name, array in model.items()},
        }.items()
    }


# Name → how a state dict is wrapped, and the normalizer that comes with it.
LAYOUTS = {
    "torchvision": (lambda arrays: arrays, IMAGENET_NORMALIZER),
    "fast_adversarial": (
        lambda arrays: {f"module.{name}": array for name, array in arrays.items()},
        IMAGENET_NORMALIZER,
    ),
    "robustness": (
        lambda arrays: in_robustness_library(arrays, OTHER_NORMALIZER),
        OTHER_NORMALIZER,
    ),
}


def images(height: int, width: int) -> np.ndarray:
    """Two images in [0, 1], float32 `[2, height, width, 3]`, the same for ever."""
    return np.random.RandomState(1).random_sample((2, height, width, 3)).astype(np.float32)


def pytorch_network(arrays: Mapping[str, np.ndarray]):
    """The network of a state dict, from normalized images `[batch, 3, height, width]`."""
    import torch
    from torch import nn

    def convolution(inputs, outputs, size, stride=1):
        return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)

    class Bottleneck(nn.Module):
        def __init__(self, inputs, filters, stride, changes):
            super().__init__()
            self.conv1, self.bn1 = convolution(inputs, filters, 1), nn.BatchNorm2d(filters)
            self.conv2, self.bn2 = convolution(filters, filters, 3, stride), nn.BatchNorm2d(filters)
            self.conv3 = convolution(filters, 4 * filters, 1)
            self.bn3 = nn.BatchNorm2d(4 * filters)
            self.downsample = nn.Sequential()
            if changes:
                self.downsample = nn.Sequential(
                    convolution(inputs, 4 * filters, 1, stride), nn.BatchNorm2d(4 * filters)
                )

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = torch.relu(self.bn2(self.conv2(y)))
            return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))

    class ResNet(nn.Module):
        def __init__(self, width, num_classes):
            super().__init__()
            self.conv1, self.bn1 = convolution(3, width, 7, 2), nn.BatchNorm2d(width)
            inputs = width
            for stage, blocks in enumerate(BLOCKS):
                layer = nn.Sequential()
                for block in range(blocks):
                    stride = 2 if stage > 0 and block == 0 else 1
                    layer.append(Bottleneck(inputs, width * 2**stage, stride, block == 0))
                    inputs = 4 * width * 2**stage
                setattr(self, f"layer{stage + 1}", layer)
            self.fc = nn.Linear(inputs, num_classes)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean(dim=(2, 3)))

    network = ResNet(len(arrays["bn1.weight"]), len(arrays["fc.bias"]))
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return network.eval()


def pytorch_logits(
    arrays: Mapping[str, np.ndarray], batch: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
    """What PyTorch makes of images `[batch, height, width, 3]` in [0, 1]."""
    import torch

    normalized = ((batch - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return pytorch_network(arrays)(torch.from_numpy(normalized.copy())).numpy()
