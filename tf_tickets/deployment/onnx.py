"""ONNX files: a network in ONNX's format, and what ONNX Runtime makes of it."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from tf_tickets.deployment.inference import Inference
from tf_tickets.deployment.onnx_operations import einsum, erfc
from tf_tickets.deployment.optimizations import (
    quantizes_activations,
    require_combination,
    require_examples,
    single_examples,
)
from tf_tickets.errors import UserError, require_extra
from tf_tickets.runs.files import atomic_path

COMBINATIONS = ((), ("float16",), ("int8",))
_OPSET = 18
_HANDLERS = {"Einsum": (einsum, []), "Erfc": (erfc, [])}
_STORED_TYPES = ("float32", "float16", "int8")


def write_onnx(
    inference: Inference,
    path: Path,
    optimizations: Collection[str],
    examples: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a network as one ONNX file.

    Batch size, and a length of texts that is open, stay open. Inputs and logits stay as they are
    in the network; weights that are zero are zero in the file whatever the optimizations.

    Args:
      inference: the network.
      path: where the file goes.
      optimizations: none; `float16`, which stores weights and computes in float16; or `int8`,
        which does both in integers (of networks that take tokens, see `quantizes_activations`).
      examples: representative inputs, name → `[examples, ...]`, whose activations set the scales
        of `int8`; otherwise unused.
      metadata: what the file says about itself, in its `metadata_props`.

    Raises:
      UserError: the extra `onnx` is not installed, the optimizations do not go together, or
        examples are missing.
    """
    require_onnx()
    require_combination(optimizations, COMBINATIONS, "onnx")
    import onnx
    import tf2onnx

    if quantizes_activations(inference, optimizations):
        require_examples(inference, examples)
    model, _ = tf2onnx.convert.from_function(
        inference.function,
        input_signature=list(inference.inputs.values()),
        opset=_OPSET,
        custom_op_handlers=_HANDLERS,
    )
    if "float16" in optimizations:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True)
    if "int8" in optimizations:
        model = _quantize(model, inference, examples)
    onnx.helper.set_model_props(model, dict(metadata or {}))
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


class OnnxArtifact:
    """An ONNX file in ONNX Runtime, on the CPU.

    Args:
      path: a file that `write_onnx` wrote.
      threads: that one operation may use; operations run one after the other.

    Raises:
      UserError: the extra `onnx` is not installed, or the file is missing or damaged.
    """

    def __init__(self, path: Path, threads: int = 1):
        require_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        try:
            self._content = path.read_bytes()
            self._session = onnxruntime.InferenceSession(
                self._content, options, providers=["CPUExecutionProvider"]
            )
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except Exception as error:  # ONNX Runtime's errors have nothing else in common.
            raise UserError(f"{path}: not an ONNX file, or damaged ({error})") from None

    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's answer to a batch.

        Args:
          inputs: name → array, of any batch size.

        Returns:
          float32 `[batch, classes]`.
        """
        feeds = {each.name: inputs[each.name] for each in self._session.get_inputs()}
        (logits,) = self._session.run(["logits"], feeds)
        return logits

    def weights(self) -> list[np.ndarray]:
        """All constants with two or more axes, those in int8 as integers whose 0 is zero."""
        import onnx

        initializers = onnx.load_from_string(self._content).graph.initializer
        arrays = [onnx.numpy_helper.to_array(each) for each in initializers]
        return [array for array in arrays if array.ndim > 1 and array.dtype.name in _STORED_TYPES]


def require_onnx() -> None:
    """Raises a `UserError` unless the extra `onnx` is installed."""
    require_extra("onnx", "tf2onnx", "onnx", "onnxruntime")


def _quantize(model, inference, examples):
    """Weights in int8, one scale a channel; activations too, or only inside products."""
    import onnx
    from onnxruntime import quantization

    in_layers = quantizes_activations(inference, {"int8"})
    # Seven bits, because CPUs without VNNI add products of eight in too few bits.
    options = {"weight_type": quantization.QuantType.QInt8, "reduce_range": True}
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder, f"{name}.onnx") for name in ("a", "b", "c"))
        onnx.save(model, source)
        # Products are joined with the biases after them, so that no sum is rounded between.
        quantization.quant_pre_process(
            source, prepared, skip_optimization=not in_layers, skip_symbolic_shape=True
        )
        if in_layers:
            quantization.quantize_static(
                prepared,
                target,
                _Examples(examples),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                per_channel=True,
                **options,
            )
        else:
            quantization.quantize_dynamic(
                prepared, target, op_types_to_quantize=["MatMul"], per_channel=True, **options
            )
        return onnx.load(target)


class _Examples:
    """Gives examples one at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, examples):
        self._batches = single_examples(examples)

    def get_next(self):
        return next(self._batches, None)
