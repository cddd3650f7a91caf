"""The networks' layers in NumPy and double precision, written from their definitions."""

import numpy as np


def convolution(images, kernel, stride=1, margin=0):
    """Sums every window times the kernel; `margin` zeros lie around the image on each side."""
    kernel = kernel.astype(np.float64)
    images = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    size = kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return np.einsum("nyxcij,ijco->nyxo", windows[:, ::stride, ::stride], kernel)


def pool(images, reduce):
    """Reduces squares of 2x2 pixels; an odd last row or column is left out."""
    batch, height, width, channels = images.shape
    squares = images[:, : height // 2 * 2, : width // 2 * 2]
    squares = squares.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return reduce(squares, axis=(2, 4))


def relu(x):
    return np.maximum(x, 0)


class Network:
    """Layers that look their weights up by name."""

    def __init__(self, weights):
        self._weights = weights

    def conv(self, x, name, stride=1):
        kernel = self._weights[f"{name}/kernel"]
        return convolution(x, kernel, stride, margin=kernel.shape[0] // 2)

    def depthwise(self, x, name, stride=1):
        """A convolution whose kernel takes nothing from one channel to another."""
        kernel = self._weights[f"{name}/depthwise_kernel"]
        size, _, channels, _ = kernel.shape
        return convolution(x, kernel * np.eye(channels), stride, margin=size // 2)

    def norm(self, x, name):
        """BatchNorm in inference mode."""
        gamma, beta, mean, variance = (
            self._weights[f"{name}/{part}"].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def dense(self, x, name):
        kernel, bias = self._weights[f"{name}/kernel"], self._weights[f"{name}/bias"]
        return x @ kernel.astype(np.float64) + bias


def randomised(weights, seed=0):
    """Weights with biases and BatchNorm parameters that are not where they start."""
    random = np.random.default_rng(seed)
    return {
        path: array
        if path.endswith("kernel")
        else random.uniform(0.5, 1.5, array.shape).astype(np.float32)
        for path, array in weights.items()
    }
