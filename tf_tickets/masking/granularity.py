"""How many weights share a mask: from one weight to a whole matrix."""

import re

import tf_keras as keras

from tf_tickets.errors import UserError, require_choices

GRANULARITIES = ("weight", "neuron", "head", "matrix")


def mask_shape(layer: keras.layers.Layer, granularity: str) -> tuple[int, ...]:
    """The shape of the masks over a layer's kernel.

    Args:
      layer: built, with a `kernel`: `[in, out]` of a dense layer, `[..., in, out]` of a
        convolution, or that of an `EinsumDense`, whose equation tells inputs from outputs.
      granularity: what shares a mask: nothing (`weight`), the weights into one output
        (`neuron`; of a convolution, a filter), those of one attention head (`head`; only in the
        kernels of a `MultiHeadAttention`), or all of them (`matrix`).

    Returns:
      A shape that broadcasts to the kernel's: its axes, or 1 where weights share a mask.

    Raises:
      UserError: no such granularity, or a kernel without heads.
    """
    require_choices("granularity", [granularity], GRANULARITIES)
    kernel_shape = tuple(layer.kernel.shape)
    axes = range(len(kernel_shape))
    own = {
        "weight": lambda: axes,
        "neuron": lambda: _output_axes(layer),
        "head": lambda: [_head_axis(layer)],
        "matrix": lambda: [],
    }[granularity]()
    return tuple(kernel_shape[axis] if axis in own else 1 for axis in axes)


def _output_axes(layer):
    """The axes of the kernel that are axes of the layer's output."""
    if not isinstance(layer, keras.layers.EinsumDense):
        return [layer.kernel.shape.rank - 1]
    _, kernel, output = re.split(",|->", layer.equation)
    return [axis for axis, letter in enumerate(kernel) if letter in output]


def _head_axis(layer):
    """The first of the two axes, heads and their size, that the kernel reads or writes."""
    if isinstance(layer, keras.layers.EinsumDense) and layer.kernel.shape.rank == 3:
        outputs = _output_axes(layer)
        inputs = [axis for axis in range(3) if axis not in outputs]
        return max(inputs, outputs, key=len)[0]
    raise UserError(
        f"--granularity=head: {layer.name} is a {type(layer).__name__} layer without attention "
        "heads; expected weight, neuron or matrix"
    )
