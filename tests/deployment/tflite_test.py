"""TFLite files: their logits and weights beside the network's, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tests.deployment import sparse_networks
from tests.models import tiny_bert
from tf_tickets.deployment.inference import image_inference, text_inference
from tf_tickets.deployment.tflite import TFLiteArtifact, write_tflite
from tf_tickets.deployment.tflite_weights import stored_weights
from tf_tickets.errors import UserError

KINDS = {
    "none": (),
    "sparse": ("sparse",),
    "float16": ("float16",),
    "sparse_float16": ("float16", "sparse"),
    "int8": ("int8",),
}


@pytest.fixture(scope="module")
def model():
    return sparse_networks.convolutional()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite")
    for name, optimizations in KINDS.items():
        examples = sparse_networks.images() if name == "int8" else None
        path = folder / f"{name}.tflite"
        write_tflite(image_inference(model), path, optimizations, examples)
    return folder


def written(inference, path, *optimizations, examples=None):
    write_tflite(inference, path, optimizations, examples)
    return TFLiteArtifact(path)


def unpacked(path):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))


def in_tflites_layout(kernel):
    return np.moveaxis(kernel, -1, 0)


def of_shape(arrays, shape):
    (array,) = [array for array in arrays if array.shape == shape]
    return array


def blocks_of(density, inputs, units):
    generator = np.random.default_rng(inputs)
    kept = np.repeat(generator.random((inputs // 4, units)) < density, 4, axis=0)
    return np.where(kept, generator.normal(size=(inputs, units)), 0).astype(np.float32)


@pytest.mark.parametrize(
    "name, tolerance",
    [("none", 1e-5), ("sparse", 1e-5), ("float16", 1e-2), ("sparse_float16", 1e-2), ("int8", 0.1)],
)
def test_logits_are_the_models_whatever_the_batches_before(files, model, name, tolerance):
    artifact = TFLiteArtifact(files / f"{name}.tflite", threads=2)
    inputs = sparse_networks.images()["images"]
    expected = model(inputs, training=False).numpy()
    for batch in (64, 1, 3, 64):
        logits = artifact.logits({"images": inputs[:batch]})
        assert logits.shape == (batch, 10) and logits.dtype == np.float32
        difference = np.abs(logits - expected[:batch]).max()
        assert difference <= tolerance * np.abs(expected).max()
    assert np.mean(logits.argmax(1) == expected.argmax(1)) > 0.9


@pytest.mark.parametrize("name", ["none", "sparse"])
def test_stored_weights_are_the_models(files, model, name):
    arrays = TFLiteArtifact(files / f"{name}.tflite").weights()
    assert len(arrays) == 4
    for kernel in sparse_networks.kernels(model)[1:]:  # The first has the BatchNorm in it.
        expected = in_tflites_layout(kernel)
        np.testing.assert_array_equal(of_shape(arrays, expected.shape), expected)


@pytest.mark.parametrize("name", KINDS)
def test_no_weight_outside_the_masks_comes_back(files, model, name):
    arrays = TFLiteArtifact(files / f"{name}.tflite").weights()
    for kernel in map(in_tflites_layout, sparse_networks.kernels(model)):
        stored = of_shape(arrays, kernel.shape)
        assert not np.any(stored[kernel == 0])
        lost = np.abs(kernel[(stored == 0) & (kernel != 0)])
        assert np.all(lost < np.abs(kernel).max() / 100)
        assert stored.dtype == (np.float16 if "float16" in name else np.float32)


def test_int8_weights_are_within_half_a_step(files, model):
    arrays = TFLiteArtifact(files / "int8.tflite").weights()
    for kernel in sparse_networks.kernels(model)[1:]:
        stored = np.moveaxis(of_shape(arrays, in_tflites_layout(kernel).shape), 0, -1)
        steps = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0) / 127
        assert np.all(np.abs(stored - kernel) <= steps * 0.51)


def test_int8_computes_what_numpy_does_with_as_many_values(tmp_path):
    inference = sparse_networks.two_layers()
    inputs = np.random.default_rng(0).random((32, 12)).astype(np.float32)
    artifact = written(inference, tmp_path / "f.tflite", "int8", examples={"images": inputs})
    weights = [(layer.kernel.numpy(), layer.bias.numpy()) for layer in inference.model.layers]
    expected = sparse_networks.int8_logits(weights, inputs, inputs, levels=127)
    exact = inference.model(inputs).numpy()
    step = sparse_networks.output_step(exact)
    assert np.abs(artifact.logits({"images": inputs}) - expected).max() <= 1.01 * step
    assert np.abs(expected - exact).max() > 1.01 * step


def test_files_are_smaller(files):
    sizes = {name: (files / f"{name}.tflite").stat().st_size for name in KINDS}
    assert sizes["sparse"] < sizes["none"] / 4
    assert sizes["sparse_float16"] < sizes["sparse"] < sizes["float16"] < sizes["none"] * 0.6
    assert sizes["int8"] < sizes["none"] / 3


@pytest.mark.parametrize("optimizations", [("sparse",), ("sparse", "float16")])
@pytest.mark.parametrize(
    "inputs, density", [(64, 0.03), (33, 0.03), (70, 0.03), (1028, 0.1), (16, 0)]
)
def test_sparse_kernels_of_any_width_are_multiplied_right(tmp_path, inputs, density, optimizations):
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(inputs, 9)) * (generator.random((inputs, 9)) < density)
    kernel = kernel.astype(np.float16).astype(np.float32)
    artifact = written(sparse_networks.dense(kernel), tmp_path / "f.tflite", *optimizations)
    batch = generator.random((3, inputs)).astype(np.float32)
    np.testing.assert_allclose(artifact.logits({"images": batch}), batch @ kernel, atol=1e-4)
    np.testing.assert_array_equal(artifact.weights()[0], kernel.T)


def test_few_blocks_are_stored_whole_and_many_weight_by_weight(tmp_path):
    for density, levels in ((0.1, 3), (0.5, 2)):
        kernel = blocks_of(density, 256, 8)
        write_tflite(sparse_networks.dense(kernel), tmp_path / "f.tflite", ("sparse",))
        tensors = unpacked(tmp_path / "f.tflite").subgraphs[0].tensors
        (sparsity,) = [each.sparsity for each in tensors if each.sparsity is not None]
        assert len(sparsity.dimMetadata) == levels


def test_a_dense_layer_beside_a_sparse_one_keeps_its_version(tmp_path):
    inference = sparse_networks.two_layers()
    first, last = inference.model.layers
    first.kernel.assign(blocks_of(0.1, 12, 16))
    last.kernel.assign(np.ones(last.kernel.shape))
    write_tflite(inference, tmp_path / "f.tflite", ("sparse",))
    file = unpacked(tmp_path / "f.tflite")
    codes = [file.operatorCodes[each.opcodeIndex] for each in file.subgraphs[0].operators]
    assert [code.builtinCode for code in codes] == [schema.BuiltinOperator.FULLY_CONNECTED] * 2
    assert codes[0].version >= 8 > codes[1].version


@pytest.mark.parametrize(
    "kernel", [blocks_of(0.1, 64, 12), blocks_of(0.3, 64, 12) * (np.arange(12) % 3 > 0)]
)
def test_weights_that_tensorflow_made_sparse_are_read(kernel):
    inference = sparse_networks.dense(kernel)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [inference.function.get_concrete_function()], inference.model
    )
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    (stored,) = stored_weights(converter.convert())
    np.testing.assert_array_equal(stored, kernel.T)


@pytest.mark.parametrize(
    "optimizations, found", [(("sparse", "int8"), "sparse,int8"), (("compact",), "compact")]
)
def test_what_does_not_go_together_is_refused(model, tmp_path, optimizations, found):
    message = f"--optimize={found}: expected for tflite one of none | sparse | float16 | "
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        write_tflite(image_inference(model), tmp_path / "f.tflite", optimizations)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("examples", [None, {"pixels": np.zeros((3, *sparse_networks.SHAPE))}])
def test_int8_needs_examples_of_the_inputs(model, tmp_path, examples):
    with pytest.raises(UserError, match="--optimize=int8: .*examples of images, got"):
        write_tflite(image_inference(model), tmp_path / "f.tflite", ("int8",), examples)


@pytest.mark.parametrize("keep", [0, 8, 3000])
def test_damaged_files_are_refused(files, tmp_path, keep):
    path = tmp_path / "damaged.tflite"
    path.write_bytes((files / "none.tflite").read_bytes()[:keep])
    with pytest.raises(UserError, match="damaged.tflite: not a TFLite file, or damaged"):
        TFLiteArtifact(path)
    with pytest.raises(UserError, match="missing.tflite: no such file"):
        TFLiteArtifact(tmp_path / "missing.tflite")


def test_texts_of_any_number_and_length(tmp_path):
    pytest.importorskip("keras_nlp", reason="needs the extra `text`")
    classifier = sparse_networks.bert(tmp_path, density=0.05)
    artifact = written(text_inference(classifier.model), tmp_path / "f.tflite", "sparse")
    for count, length in ((3, 12), (1, 12), (2, 9)):
        inputs = {name: each[:count, :length] for name, each in tiny_bert.batch().items()}
        expected = classifier.model(inputs, training=False)
        np.testing.assert_allclose(artifact.logits(inputs), expected, atol=1e-5)
    stored = [np.sort(array.ravel()).tolist() for array in artifact.weights()]
    for layer in classifier.masked_layers.values():
        assert np.sort(layer.kernel.numpy().ravel()).tolist() in stored


def test_int8_of_texts_is_of_the_weights_alone(tmp_path):
    pytest.importorskip("keras_nlp", reason="needs the extra `text`")
    classifier = sparse_networks.bert(tmp_path)
    artifact = written(text_inference(classifier.model, 12), tmp_path / "f.tflite", "int8")
    expected = classifier.model(tiny_bert.batch(), training=False).numpy()
    difference = np.abs(artifact.logits(tiny_bert.batch()) - expected)
    assert difference.max() < 0.03 * np.abs(expected).max()
    wide = [array for array in artifact.weights() if array.size == 80 * 16]
    assert len(wide) == 2
    for array in wide:
        steps = array / (np.abs(array).max(axis=1, keepdims=True) / 127)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
