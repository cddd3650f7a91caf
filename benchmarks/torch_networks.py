"""The residual networks of tf_tickets once more, in plain PyTorch."""

import torch
from torch import nn
from torch.nn import functional

from tf_tickets.models.layers import scaled


class BasicBlock(nn.Module):
    """Two convolutions, each before a BatchNorm: ResNet's."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv_1 = _convolution(inputs, outputs, 3, stride)
        self.norm_1 = nn.BatchNorm2d(outputs)
        self.conv_2 = _convolution(outputs, outputs, 3)
        self.norm_2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                _convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = functional.relu(self.norm_1(self.conv_1(x)))
        return functional.relu(self.norm_2(self.conv_2(y)) + self.shortcut(x))


class WideBlock(nn.Module):
    """Two convolutions, each after a BatchNorm: the Wide ResNet's."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm_1 = nn.BatchNorm2d(inputs)
        self.conv_1 = _convolution(inputs, outputs, 3, stride)
        self.norm_2 = nn.BatchNorm2d(outputs)
        self.conv_2 = _convolution(outputs, outputs, 3)
        changes = stride > 1 or inputs != outputs
        self.shortcut = _convolution(inputs, outputs, 1, stride) if changes else None

    def forward(self, x):
        y = functional.relu(self.norm_1(x))
        passed_on = x if self.shortcut is None else self.shortcut(y)
        return self.conv_2(functional.relu(self.norm_2(self.conv_1(y)))) + passed_on


def resnet_18(width_multiplier: float) -> nn.Module:
    """`tf_tickets.models.resnet.resnet_18`."""
    widths = [scaled(channels, width_multiplier) for channels in (64, 128, 256, 512)]
    blocks, inputs = [], widths[0]
    for width, stride in zip(widths, (1, 2, 2, 2)):
        blocks += [BasicBlock(inputs, width, stride), BasicBlock(width, width, 1)]
        inputs = width
    stem = [_convolution(3, widths[0], 3), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, *_head(inputs))


def wide_resnet(depth: int, widen_factor: int) -> nn.Module:
    """`tf_tickets.models.wide_resnet.wide_resnet`."""
    blocks, inputs = [], 16
    for channels, first_stride in zip((16, 32, 64), (1, 2, 2)):
        for number in range((depth - 4) // 6):
            outputs = channels * widen_factor
            blocks.append(WideBlock(inputs, outputs, 1 if number else first_stride))
            inputs = outputs
    norm = [nn.BatchNorm2d(inputs), nn.ReLU()]
    return nn.Sequential(_convolution(3, 16, 3), *blocks, *norm, *_head(inputs))


def count_parameters(network: nn.Module) -> int:
    """Of all its weights that are trained."""
    return sum(weight.numel() for weight in network.parameters())


def channels_last(network: nn.Module) -> nn.Module:
    """The memory layout in which PyTorch convolves fastest on a CPU."""
    return network.to(memory_format=torch.channels_last)


def _convolution(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def _head(inputs):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)
