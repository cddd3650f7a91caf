"""TFLite files: a network in LiteRT's format, and what LiteRT's interpreter makes of it."""

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tf_tickets.deployment.inference import Inference
from tf_tickets.deployment.optimizations import (
    quantizes_activations,
    require_combination,
    require_examples,
    single_examples,
)
from tf_tickets.deployment.tflite_sparsity import store_sparsely
from tf_tickets.deployment.tflite_weights import stored_weights
from tf_tickets.errors import UserError
from tf_tickets.runs.files import atomic_path

# XNNPACK, which runs the files, fails to prepare sparse weights in int8.
COMBINATIONS = ((), ("sparse",), ("float16",), ("sparse", "float16"), ("int8",))


def write_tflite(
    inference: Inference,
    path: Path,
    optimizations: Collection[str],
    examples: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a network as one TFLite file, whose signature has the names of its inputs.

    Batch size, and a length of texts that is open, stay open. Inputs and logits stay as they are
    in the network; weights that are zero are zero in the file whatever the optimizations.

    Args:
      inference: the network.
      path: where the file goes.
      optimizations: none; `sparse`, which stores no zeros; `float16`, which stores weights in half
        the bytes and computes in float32; both; or `int8`, which stores weights in a quarter of
        the bytes and computes in integers (of networks that take tokens, see
        `quantizes_activations`).
      examples: representative inputs, name → `[examples, ...]`, whose activations set the scales
        of `int8`; otherwise unused.

    Raises:
      UserError: the optimizations do not go together, or examples are missing.
    """
    require_combination(optimizations, COMBINATIONS, "tflite")
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [inference.function.get_concrete_function()], inference.model
    )
    if "float16" in optimizations or "int8" in optimizations:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if "float16" in optimizations:
        converter.target_spec.supported_types = [tf.float16]
    if quantizes_activations(inference, optimizations):
        require_examples(inference, examples)
        converter.representative_dataset = lambda: single_examples(examples)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # The converter calibrates with the interpreter whose deprecation it announces.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter")
        content = converter.convert()
        temporary.write_bytes(store_sparsely(content) if "sparse" in optimizations else content)


class TFLiteArtifact:
    """A TFLite file in LiteRT's interpreter, for one thread of execution at a time.

    Args:
      path: a file that `write_tflite` wrote.
      threads: that one call may use.

    Raises:
      UserError: the file is missing or damaged.
    """

    def __init__(self, path: Path, threads: int = 1):
        try:
            self._content = path.read_bytes()
            self._interpreter = Interpreter(model_content=self._content, num_threads=threads)
            signature = self._interpreter.get_signature_runner()
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a TFLite file, or damaged ({error})") from None
        self._inputs = signature.get_input_details()
        self._output = signature.get_output_details()["logits"]["index"]
        self._shapes = {}

    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's answer to a batch.

        Memory is laid out anew whenever the batch has another shape than the one before it.

        Args:
          inputs: name → array, of any batch size.

        Returns:
          float32 `[batch, classes]`.
        """
        self._allocate({name: np.shape(inputs[name]) for name in self._inputs})
        for name, details in self._inputs.items():
            self._interpreter.set_tensor(
                details["index"], np.asarray(inputs[name], details["dtype"])
            )
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

    def weights(self) -> list[np.ndarray]:
        """The stored weights with two or more axes, see `stored_weights`."""
        return stored_weights(self._content)

    def _allocate(self, shapes):
        if shapes == self._shapes:
            return
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes
