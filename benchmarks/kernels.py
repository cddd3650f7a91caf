"""TensorFlow's products on the CPU beside float64: forward, and the gradients of both factors.

    python -m benchmarks.kernels --cases=3000

Draws shapes of convolutions (strided, dilated, grouped, depthwise, transposed, with and
without bias and ReLU) and of matrix products (of two to four axes, transposed, broadcast), and
compares what TensorFlow gives in float32 with a plain statement in NumPy. Each instruction set
and number of threads has a process of its own, since a wrong kernel can damage the heap. Prints
how many shapes were tried and how many were wrong; `--nomended` shows TensorFlow as it is.
"""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import flags
from tabulate import tabulate

from benchmarks import parse

FLAGS = flags.FlagValues()
flags.DEFINE_integer("cases", 3000, "Shapes to try.", 1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Decides the shapes and numbers.", 0, flag_values=FLAGS)
flags.DEFINE_list(
    "instructions",
    ["AVX2", "DEFAULT"],
    "Instruction sets that oneDNN is held to: SSE41, AVX, AVX2, AVX512_CORE; DEFAULT: the CPU's.",
    flag_values=FLAGS,
)
flags.DEFINE_list("threads", ["1", "2"], "Threads of an operation.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "mended", True, "Whether the package's own gradients are in use.", flag_values=FLAGS
)
flags.DEFINE_boolean("help", False, "Shows this text.", flag_values=FLAGS)
flags.DEFINE_boolean("worker", False, "Tries the shapes in this process.", flag_values=FLAGS)

# Relative to the largest number of the result.
TOLERANCE = 1e-4
# oneDNN as the package has it, whether the package is there or not.
SWITCHES = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_TOGETHER = 40  # Cases in one graph.
_REPEATS = 5  # A wrong kernel need not be wrong each time.
_KINDS = (
    "convolution",
    "strided points",
    "fused",
    "dilated",
    "grouped",
    "depthwise",
    "transposed",
    "product",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One product of two factors.

    Attributes:
      kind: what it is.
      name: its shapes, in words.
      shapes: of the factors.
      ours: both factors as tensors → the product, in TensorFlow.
      reference: both factors and the upstream gradient as float64 arrays → the product and
        the gradients of both factors, in NumPy.
      result: shape of the product.
    """

    kind: str
    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    ours: Callable
    reference: Callable
    result: tuple[int, ...]


def draw_cases(count: int, seed: int) -> list[Case]:
    """Draws so many cases, each kind as often as the others."""
    random = np.random.default_rng(seed)
    return [_draw(_KINDS[index % len(_KINDS)], random) for index in range(count)]


def _draw(kind, random):
    if kind == "product":
        return _matrix_product(random)
    pick = random.choice
    kernel, stride, dilation, groups = int(pick([1, 1, 2, 3, 5])), int(pick([1, 2, 2, 3])), 1, 1
    size = random.integers(7, 18, 2).tolist()
    batch = int(pick([1, 7, 32, 128]))
    channels, filters = int(pick(range(1, 20))), int(pick([1, 2, 3, 4, 7, 8, 12, 16, 24]))
    if kind == "strided points":
        kernel, stride = 1, int(pick([2, 3]))
    if kind == "dilated":
        stride, dilation, kernel = 1, int(pick([2, 3])), int(pick([2, 3]))
    if kind in ("grouped", "depthwise"):
        per_group = 1 if kind == "depthwise" else int(pick([1, 2, 3, 8]))
        groups = int(pick(range(2, 17)))
        channels, filters = groups * per_group, groups * int(pick([1, 2, 3]))
    padding = str(pick(["SAME", "VALID"]))
    return _convolution(
        kind, batch, size, channels, filters, kernel, stride, dilation, groups, padding
    )


def _convolution(
    kind, batch, size, channels, filters, kernel, stride, dilation, groups, padding
) -> Case:
    geometry = _Geometry(kernel, stride, dilation, groups, padding, tuple(size))
    image, result = (batch, *size, channels), (batch, *geometry.result, filters)
    weights = (kernel, kernel, channels // groups, filters)
    name = (
        f"{batch}×{size[0]}×{size[1]}×{channels} with {kernel}×{kernel}×{weights[2]}×{filters}, "
        f"stride {stride}, dilation {dilation}, {groups} groups, {padding}"
    )
    steps = {"strides": stride, "padding": padding, "dilations": dilation}
    if kind == "transposed":

        def ours(upstream, factor):
            return tf.nn.conv2d_transpose(upstream, factor, image, stride, padding)

        def reference(upstream, factor, gradient):
            back = geometry.to_image(upstream, factor)
            return (
                back,
                geometry.product(gradient, factor),
                geometry.to_weights(gradient, upstream),
            )

        return Case(kind, name, (result, weights), ours, reference, image)
    if kind == "depthwise":
        multiplier = filters // groups
        own = (kernel, kernel, groups, multiplier)

        def ours(images, factor):
            return tf.nn.depthwise_conv2d(images, factor, [1, stride, stride, 1], padding)

        def reference(images, factor, gradient):
            product, *back = geometry.all_of_it(images, factor.reshape(weights), gradient)
            return product, back[0], back[1].reshape(own)

        return Case(kind, name, (image, own), ours, reference, result)
    if kind == "fused":

        def ours(images, factor):
            return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, factor, **steps), _bias(filters)))

        def reference(images, factor, gradient):
            product = geometry.product(images, factor) + np.linspace(-1, 1, filters)
            _, *back = geometry.all_of_it(images, factor, gradient * (product > 0))
            return np.maximum(product, 0), *back

        return Case(kind, name, (image, weights), ours, reference, result)
    return Case(
        kind,
        name,
        (image, weights),
        lambda images, factor: tf.nn.conv2d(images, factor, **steps),
        geometry.all_of_it,
        result,
    )


def _bias(filters):
    return tf.constant(np.linspace(-1, 1, filters), tf.float32)


@dataclasses.dataclass(frozen=True)
class _Geometry:
    """A convolution written as sums over the places of its kernel."""

    kernel: int
    stride: int
    dilation: int
    groups: int
    padding: str
    size: tuple[int, int]

    @property
    def result(self):
        reach = self.dilation * (self.kernel - 1)
        if self.padding == "SAME":
            return tuple(-(-length // self.stride) for length in self.size)
        return tuple((length - reach - 1) // self.stride + 1 for length in self.size)

    def all_of_it(self, images, weights, gradient):
        """The product, and the gradients of images and weights."""
        return (
            self.product(images, weights),
            self.to_image(gradient, weights),
            self.to_weights(images, gradient),
        )

    def product(self, images, weights):
        padded, grouped = self._padded(images), self._by_group(weights)
        places = [
            np.einsum("bijgc,cgo->bijgo", self._split(padded[where]), grouped[place])
            for place, where in self._places()
        ]
        return sum(places).reshape(len(images), *self.result, -1)

    def to_image(self, gradient, weights):
        split, grouped = self._split(gradient), self._by_group(weights)
        channels = weights.shape[2] * self.groups
        padded = self._padded(np.zeros((len(gradient), *self.size, channels)))
        for place, where in self._places():
            part = np.einsum("bijgo,cgo->bijgc", split, grouped[place])
            padded[where] += part.reshape(*part.shape[:3], channels)
        (top, _), (left, _) = self._margins()
        return padded[:, top : top + self.size[0], left : left + self.size[1]]

    def to_weights(self, images, gradient):
        padded, split = self._padded(images), self._split(gradient)
        places = [
            np.einsum("bijgc,bijgo->cgo", self._split(padded[where]), split)
            for _, where in self._places()
        ]
        inputs = images.shape[3] // self.groups
        return np.reshape(places, (self.kernel, self.kernel, inputs, -1))

    def _by_group(self, weights):
        return weights.reshape(*weights.shape[:3], self.groups, -1)

    def _split(self, array):
        return array.reshape(*array.shape[:3], self.groups, -1)

    def _places(self):
        """Place of the kernel, and which of the padded image's numbers it meets."""
        spans = [self.stride * (length - 1) + 1 for length in self.result]
        for row in range(self.kernel):
            for column in range(self.kernel):
                first = (row * self.dilation, column * self.dilation)
                yield (
                    (row, column),
                    (
                        slice(None),
                        *(slice(f, f + span, self.stride) for f, span in zip(first, spans)),
                    ),
                )

    def _padded(self, images):
        return np.pad(images, ((0, 0), *self._margins(), (0, 0)))

    def _margins(self):
        if self.padding == "VALID":
            return ((0, 0), (0, 0))
        reach = self.dilation * (self.kernel - 1)
        needed = [
            max(0, (length - 1) * self.stride + reach + 1 - size)
            for length, size in zip(self.result, self.size)
        ]
        return tuple((total // 2, total - total // 2) for total in needed)


def _matrix_product(random):
    axes = int(random.integers(2, 5))
    leading = random.integers(1, 5, axes - 2).tolist()
    rows, inner, columns = random.choice([1, 2, 3, 5, 8, 13, 16, 33, 64, 100], 3).tolist()
    flipped, turned = (bool(flag) for flag in random.integers(0, 2, 2))
    broadcast = axes > 2 and random.random() < 0.3
    left = (*leading, *((inner, rows) if flipped else (rows, inner)))
    right = (
        *(() if broadcast else leading),
        *((columns, inner) if turned else (inner, columns)),
    )

    def reference(one, other, gradient):
        first = np.swapaxes(one, -1, -2) if flipped else one
        second = np.swapaxes(other, -1, -2) if turned else other
        to_first = gradient @ np.swapaxes(second, -1, -2)
        to_second = np.swapaxes(first, -1, -2) @ gradient
        if broadcast:
            to_second = to_second.sum(axis=tuple(range(axes - 2)))
        return (
            first @ second,
            np.swapaxes(to_first, -1, -2) if flipped else to_first,
            np.swapaxes(to_second, -1, -2) if turned else to_second,
        )

    return Case(
        "product",
        f"{left} by {right}{', first transposed' * flipped}{', second transposed' * turned}",
        (left, right),
        lambda one, other: tf.matmul(one, other, transpose_a=flipped, transpose_b=turned),
        reference,
        (*leading, rows, columns),
    )


def wrong_cases(cases: Sequence[Case], seed: int) -> list[dict]:
    """Tries cases in this process.

    Returns:
      For each that is wrong: its kind and name, of what (`product`, `first` or `second`
      factor's gradient), and the error relative to the largest number of the right result.
    """
    found = []
    for start in range(0, len(cases), _TOGETHER):
        found += _wrong_of_some(cases[start : start + _TOGETHER], seed + start)
    return found


def _wrong_of_some(cases, seed):
    random = np.random.default_rng(seed)
    arrays = [
        [random.standard_normal(shape, np.float32) for shape in (*case.shapes, case.result)]
        for case in cases
    ]

    @tf.function(autograph=False)
    def results(factors):
        all_of_them = []
        for case, (one, other, gradient) in zip(cases, factors):
            with tf.GradientTape() as tape:
                tape.watch([one, other])
                product = case.ours(one, other)
            all_of_them.append([product, *tape.gradient(product, [one, other], gradient)])
        return all_of_them

    tensors = [[tf.constant(array) for array in three] for three in arrays]
    runs = [tf.nest.map_structure(np.asarray, results(tensors)) for _ in range(_REPEATS)]
    found = []
    for number, (case, three) in enumerate(zip(cases, arrays)):
        right = case.reference(*(array.astype(np.float64) for array in three))
        for part, (name, truth) in enumerate(zip(("product", "first", "second"), right)):
            worst = max(np.abs(run[number][part] - truth).max(initial=0) for run in runs)
            error = worst / max(np.abs(truth).max(initial=0), 1e-30)
            if not error <= TOLERANCE:
                found.append(
                    {"kind": case.kind, "name": case.name, "of": name, "error": float(error)}
                )
    return found


def try_here(count: int, seed: int, threads: int, mended: bool) -> None:
    """Tries the cases in this process; prints the wrong ones, a line of JSON each."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if mended:
        importlib.import_module("tf_tickets")
    for wrong in wrong_cases(draw_cases(count, seed), seed):
        print(json.dumps(wrong), flush=True)


def main():
    """Starts a process for each instruction set and number of threads, and prints the table."""
    count, seed = FLAGS.cases, FLAGS.seed
    if FLAGS.worker:
        try_here(count, seed, int(FLAGS.threads[0]), FLAGS.mended)
        return
    tried = Counter(case.kind for case in draw_cases(count, seed))
    rows = []
    for instructions in FLAGS.instructions:
        for threads in FLAGS.threads:
            arguments = [f"--cases={count}", f"--seed={seed}", f"--threads={threads}", "--worker"]
            arguments += [] if FLAGS.mended else ["--nomended"]
            held = {} if instructions == "DEFAULT" else {"ONEDNN_MAX_CPU_ISA": instructions}
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.kernels", *arguments],
                env=os.environ | held | SWITCHES,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            wrong = [json.loads(line) for line in done.stdout.splitlines()]
            for one in wrong:
                print(instructions, threads, one, file=sys.stderr)
            for kind in _KINDS:
                names = {one["name"] for one in wrong if one["kind"] == kind}
                ended = "" if done.returncode == 0 else f"the process died ({done.returncode})"
                rows.append([instructions, threads, kind, tried[kind], len(names), ended])
    headers = ["instructions", "threads", "kind", "shapes", "wrong", ""]
    print(tabulate(rows, headers, "github"))


if __name__ == "__main__":
    parse(sys.argv, FLAGS)
    if FLAGS.help:
        print(f"{__doc__}\n{FLAGS.get_help(include_special_flags=False)}")
    else:
        main()
