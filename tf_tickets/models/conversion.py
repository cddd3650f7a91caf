"""The weights of others' ResNet-50s as weights of ours.

What the others call a weight follows from the names and shapes of our model, whatever its
width.
"""

from collections.abc import Mapping

import numpy as np
import tf_keras as keras

from tf_tickets.errors import UserError, one_line
from tf_tickets.models.bottleneck_resnet import IMAGENET_MEAN, IMAGENET_STD
from tf_tickets.models.weights import Weights, head_paths, read_weights, shape_problems

_MEAN, _VARIANCE = "normalize/moving_mean", "normalize/moving_variance"

_NORMALIZER = {_MEAN: "normalizer.new_mean", _VARIANCE: "normalizer.new_std"}
_PYTORCH_LAYERS = {
    "stem/conv": "conv1",
    "stem/norm": "bn1",
    "conv_1": "conv1",
    "norm_1": "bn1",
    "conv_2": "conv2",
    "norm_2": "bn2",
    "conv_3": "conv3",
    "norm_3": "bn3",
    "shortcut_conv": "downsample.0",
    "shortcut_norm": "downsample.1",
    "logits": "fc",
}
_PYTORCH_VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# The axes of our arrays in PyTorch's order: channels out, channels in, height, width.
_PYTORCH_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}

_APPLICATION_LAYERS = {
    "stem/conv": "conv1_conv",
    "stem/norm": "conv1_bn",
    "conv_1": "1_conv",
    "norm_1": "1_bn",
    "conv_2": "2_conv",
    "norm_2": "2_bn",
    "conv_3": "3_conv",
    "norm_3": "3_bn",
    "shortcut_conv": "0_conv",
    "shortcut_norm": "0_bn",
    "logits": "predictions",
}
_APPLICATION_EPSILON = 1.001e-5
# What `preprocess_input` of keras.applications takes from 0..255, for red, green and blue.
_APPLICATION_MEAN = (123.68, 116.779, 103.939)


def from_pytorch(source: str, tensors: Mapping[str, np.ndarray], model: keras.Model) -> Weights:
    """Converts a state dict of torchvision's ResNet-50.

    It may be wrapped in `DataParallel` (`module.` before each name), as those of "Fast is better
    than free" are (arXiv:2001.03994, locuslab/fast_adversarial), and in the robustness library's
    `AttackerModel`, as those of "Do Adversarially Robust ImageNet Models Transfer Better?" are
    (arXiv:2007.08489, microsoft/robust-models-transfer). The latter holds the constants of
    `normalize`; they are ImageNet's in the others. `torch.compile`'s `_orig_mod.` before each name
    is known, too, and a ticket of `torch.nn.utils.prune`: its masks times its weights.

    Args:
      source: what the state dict was read from, for errors.
      tensors: name → array in PyTorch's layout.
      model: `resnet_50_v1_5` for RGB images, for any number of classes; it is not changed.

    Returns:
      All weights of `model`, but with the head for the state dict's number of classes.

    Raises:
      UserError: a weight is missing, superfluous, of another shape or not finite, or a variance
        is negative.
    """
    tensors = {
        name: array
        for name, array in _unwrapped(tensors).items()
        if not name.endswith(".num_batches_tracked")
    }
    names = {path: _NORMALIZER.get(path) or _pytorch_name(path) for path in read_weights(model)}
    shapes = {
        names[path]: tuple(shape[axis] for axis in _PYTORCH_AXES[len(shape)])
        for path, shape in _shapes(model, tensors.get("fc.bias")).items()
    }
    _require_shapes(source, model, tensors, shapes)
    _require_sound(source, tensors)
    weights = {
        path: tensors[name].transpose(np.argsort(_PYTORCH_AXES[tensors[name].ndim]))
        for path, name in names.items()
    }
    return weights | {_VARIANCE: np.square(weights[_VARIANCE])}


def from_application(source: str, arrays: Weights, model: keras.Model) -> Weights:
    """Converts the weights of `keras.applications.ResNet50` with its head.

    The biases of its convolutions become part of BatchNorm's means, the difference between the
    two networks' epsilons of its variances, and `normalize` and the first kernel do what the
    application's `preprocess_input` does. That is exact in inference mode.

    Args:
      source: where the weights are from, for errors.
      arrays: weight path → array, as `read_weights` gives them for the application.
      model: `resnet_50_v1` for RGB images, for any number of classes; it is not changed.

    Returns:
      All weights of `model`, but with the head for the application's number of classes.

    Raises:
      UserError: a weight is of another shape, as in a model of another width.
    """
    shapes = _shapes(model, arrays["predictions/bias"])
    names = {path: _application_name(path) for path in shapes if path not in _NORMALIZER}
    found = {name: arrays[name] for name in names.values()}
    _require_shapes(source, model, found, {names[path]: shapes[path] for path in names})
    weights = {path: found[name] for path, name in names.items()}

    norms = [path.removesuffix("/moving_mean") for path in weights if path.endswith("/moving_mean")]
    for norm in norms:
        bias = arrays[_application_name(norm.replace("norm", "conv") + "/bias")]
        weights[f"{norm}/moving_mean"] = weights[f"{norm}/moving_mean"] - bias
        weights[f"{norm}/moving_variance"] = weights[f"{norm}/moving_variance"] + np.float32(
            _APPLICATION_EPSILON - model.get_layer(norm).epsilon
        )
    # The application reads blue, green, red.
    weights["stem/conv/kernel"] = weights["stem/conv/kernel"][:, :, ::-1]
    weights[_MEAN] = np.divide(_APPLICATION_MEAN, 255, dtype=np.float32)
    weights[_VARIANCE] = np.full(3, 255.0**-2, np.float32)
    return weights


def _unwrapped(tensors):
    """The state dict under torchvision's names, with the constants of the normalization."""
    while prefix := _common_prefix(tensors):
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    tensors = _masked(tensors)
    if not any(name.startswith("model.") for name in tensors):
        return dict(zip(_NORMALIZER.values(), np.float32([IMAGENET_MEAN, IMAGENET_STD]))) | tensors
    # The attacker holds the same network and normalizer once more.
    return {
        name.removeprefix("model."): array.ravel() if name.startswith("normalizer.") else array
        for name, array in tensors.items()
        if not name.startswith("attacker.")
    }


def _common_prefix(tensors):
    """What a wrapper puts before the name of every weight; "" for none."""
    for prefix in ("module.", "_orig_mod."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            return prefix
    return ""


def _masked(tensors):
    """With `weight` in place of the `weight_orig` and `weight_mask` of a pruned network."""
    masked = dict(tensors)
    for name in tensors:
        whole = name.removesuffix("_orig")
        mask = tensors.get(f"{whole}_mask")
        if whole != name and mask is not None and mask.shape == tensors[name].shape:
            masked[whole] = masked.pop(name) * masked.pop(f"{whole}_mask")
    return masked


def _require_sound(source, tensors):
    """Raises a `UserError` about the first weight that no network can work with."""
    for name, array in tensors.items():
        if np.iscomplexobj(array):
            raise UserError(f"{source}: {name} holds complex values")
        if not np.all(np.isfinite(np.asarray(array, np.float32))):
            raise UserError(f"{source}: {name} holds NaN or infinite values")
        if name.endswith("running_var") and np.min(array, initial=0) < 0:
            raise UserError(f"{source}: {name} holds a variance below 0")
        if name == _NORMALIZER[_VARIANCE] and np.min(array) <= 0:
            raise UserError(f"{source}: {name} holds a standard deviation that is not above 0")


def _pytorch_name(path):
    """`layer2.0.bn1.running_mean` of `stage_2/block_1/norm_1/moving_mean`."""
    layer, variable = path.rsplit("/", 1)
    if layer in _PYTORCH_LAYERS:
        prefix = _PYTORCH_LAYERS[layer]
    else:
        stage, block, part = _place(layer)
        prefix = f"layer{stage}.{block - 1}.{_PYTORCH_LAYERS[part]}"
    return f"{prefix}.{_PYTORCH_VARIABLES[variable]}"


def _application_name(path):
    """`conv3_block1_1_bn/moving_mean` of `stage_2/block_1/norm_1/moving_mean`."""
    layer, variable = path.rsplit("/", 1)
    if layer in _APPLICATION_LAYERS:
        return f"{_APPLICATION_LAYERS[layer]}/{variable}"
    stage, block, part = _place(layer)
    return f"conv{stage + 1}_block{block}_{_APPLICATION_LAYERS[part]}/{variable}"


def _place(layer):
    """Stage, block and part of a layer's name such as `stage_2/block_1/norm_1`."""
    stage, block, part = layer.split("/")
    return int(stage.removeprefix("stage_")), int(block.removeprefix("block_")), part


def _shapes(model, bias):
    """Weight path → shape, with a head for as many classes as `bias`, if given, has numbers."""
    shapes = {path: array.shape for path, array in read_weights(model).items()}
    if bias is None:
        return shapes
    return shapes | {path: (*shapes[path][:-1], bias.size) for path in head_paths(model)}


def _require_shapes(source, model, arrays, shapes):
    """Raises a `UserError` unless names and shapes are as expected."""
    problems = shape_problems(arrays, shapes)
    if problems:
        details = one_line("; ".join(problems), 200)
        raise UserError(f"{source}: not the weights of {model.name}: {details}")
