"""What can be done to a network's numbers when it is written as a file, and what goes together."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from tf_tickets.deployment.inference import Inference
from tf_tickets.errors import require


def require_combination(
    optimizations: Collection[str], combinations: Collection[Collection[str]], kind: str
) -> None:
    """Raises a `UserError` unless the optimizations are one of a kind of file's combinations.

    Args:
      optimizations: those asked for, in any order.
      combinations: those that work; the empty one is called `none`.
      kind: of file, as the message names it.
    """
    names = [",".join(combination) or "none" for combination in combinations]
    require(
        any(set(optimizations) == set(combination) for combination in combinations),
        "optimize",
        ",".join(optimizations),
        f"for {kind} one of {' | '.join(names)}",
    )


def quantizes_activations(inference: Inference, optimizations: Collection[str]) -> bool:
    """Whether int8 is to be in what layers hand each other too, not just in weights.

    A transformer's attention mask adds minus a billion to what must not be attended to, and all
    other scores would be one number in int8 beside it. So of a network that takes tokens only
    the weights are stored in int8; activations become int8 inside a product, by their range in
    each call.
    """
    takes_tokens = any(spec.dtype.is_integer for spec in inference.inputs.values())
    return "int8" in optimizations and not takes_tokens


def require_examples(inference: Inference, examples: Mapping[str, np.ndarray] | None) -> None:
    """Raises a `UserError` unless there is an example of each of the network's inputs."""
    given = {name: len(array) for name, array in (examples or {}).items()}
    require(
        set(given) == set(inference.inputs) and min(given.values()) > 0,
        "optimize",
        "int8",
        f"representative examples of {', '.join(inference.inputs)}, got {given or 'none'}",
    )


def single_examples(examples: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yields the examples one at a time, each as a batch of one."""
    for index in range(min(len(array) for array in examples.values())):
        yield {name: array[index : index + 1] for name, array in examples.items()}
