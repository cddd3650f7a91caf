"""Gradients of convolutions and matrix products, held to plain statements of them in NumPy."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import kernels
from tf_tickets.compat import convolution_gradients

SHAPES = 320


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("instructions", ["AVX2", ""])
def test_no_kernel_is_wrong(instructions, threads):
    """In a process of its own, as a wrong one can write beyond its memory."""
    held = {"ONEDNN_MAX_CPU_ISA": instructions} if instructions else {}
    arguments = [f"--cases={SHAPES}", f"--threads={threads}", "--worker"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels", *arguments],
        env=os.environ | kernels.SWITCHES | held,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line) for line in done.stdout.splitlines()] == []


@pytest.mark.parametrize("flag, code", [("--nosuch", 2), ("--cases=few", 2), ("--help", 0)])
def test_the_sweep_says_what_its_flags_are(flag, code):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels", flag],
        env=os.environ | kernels.SWITCHES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    if code:
        line = done.stderr.splitlines()[-1]
        assert line.startswith("error: ") and flag.split("=")[0].strip("-") in line
        assert "Traceback" not in done.stderr
    else:
        assert done.stdout.startswith(kernels.__doc__) and "--cases" in done.stdout


def test_the_sweep_sees_a_wrong_gradient():
    case = next(each for each in kernels.draw_cases(20, 0) if each.kind == "strided points")

    @tf.custom_gradient
    def doubled(images, factor):
        def gradients(upstream):
            with tf.GradientTape() as tape:
                tape.watch([images, factor])
                product = case.ours(images, factor)
            to_images, to_factor = tape.gradient(product, [images, factor], upstream)
            return to_images, 2 * to_factor

        return case.ours(images, factor), gradients

    wrong = dataclasses.replace(case, ours=doubled)
    assert [one["of"] for one in kernels.wrong_cases([case, wrong], 0)] == ["second"]


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [1, 2], [0, 1], [0, 0]]])
def test_strided_points_by_hand(padding, graph):
    """∂/∂W_co Σ y u = Σ_bij x_{b, s·i, s·j, c} u_bijo, and the same for x."""
    random = np.random.default_rng(0)
    images = random.standard_normal((2, 7, 8, 3)).astype(np.float32)
    kernel = random.standard_normal((1, 1, 3, 5)).astype(np.float32)
    margins = padding if isinstance(padding, list) else [[0, 0]] * 4
    seen = np.pad(images, margins)[:, ::3, ::2]
    upstream = random.standard_normal((*seen.shape[:3], 5)).astype(np.float32)

    def gradients(image, weights):
        with tf.GradientTape() as tape:
            tape.watch([image, weights])
            product = tf.nn.conv2d(image, weights, [1, 3, 2, 1], padding)
        return tape.gradient(product, [image, weights], tf.constant(upstream))

    run = tf.function(gradients) if graph else gradients
    to_images, to_kernel = run(tf.constant(images), tf.constant(kernel))

    np.testing.assert_allclose(
        to_kernel[0, 0], np.einsum("bijc,bijo->co", seen, upstream), rtol=1e-4, atol=1e-5
    )
    padded = np.zeros_like(np.pad(images, margins))
    padded[:, ::3, ::2] = np.einsum("bijo,co->bijc", upstream, kernel[0, 0])
    (top, _), (left, _) = margins[1:3]
    expected = padded[:, top : top + 7, left : left + 8]
    np.testing.assert_allclose(to_images, expected, rtol=1e-4, atol=1e-5)


def test_mending_twice_is_mending_once():
    registered = convolution_gradients.ops.gradient_registry
    before = registered.lookup("Conv2D")
    convolution_gradients.mend()
    assert registered.lookup("Conv2D") is before


def test_wide_networks_keep_their_bits():
    """Where oneDNN's own kernel is right, the mended gradient is the same to the last bit."""
    random = np.random.default_rng(0)
    for channels, filters in ((16, 32), (64, 128)):
        images = tf.constant(random.standard_normal((32, 16, 16, channels)), tf.float32)
        kernel = tf.zeros([1, 1, channels, filters])
        upstream = tf.constant(random.standard_normal((32, 8, 8, filters)), tf.float32)

        @tf.function
        def both(images, kernel, upstream):
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                product = tf.nn.conv2d(images, kernel, 2, "SAME")
            own = tf.raw_ops.Conv2DBackpropFilter(
                input=images,
                filter_sizes=tf.shape(kernel),
                out_backprop=upstream,
                strides=[1, 2, 2, 1],
                padding="SAME",
            )
            return tape.gradient(product, kernel, upstream), own

        ours, own = both(images, kernel, upstream)
        np.testing.assert_array_equal(ours, own)
