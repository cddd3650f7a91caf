"""ONNX files: their logits and weights beside the network's, and what is refused."""

import numpy as np
import pytest

from tests.deployment import sparse_networks
from tests.models import tiny_bert
from tf_tickets.deployment.inference import image_inference, text_inference
from tf_tickets.errors import UserError

REASON = "needs the extra `onnx`"
onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)
pytest.importorskip("tf2onnx", reason=REASON)

from tf_tickets.deployment.onnx import OnnxArtifact, write_onnx  # noqa: E402

KINDS = {"none": (), "float16": ("float16",), "int8": ("int8",)}
METADATA = {"ticket": '{"density": 0.1}', "natural_accuracy": "0.98"}


@pytest.fixture(scope="module")
def model():
    return sparse_networks.convolutional()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    for name, optimizations in KINDS.items():
        examples = sparse_networks.images() if name == "int8" else None
        path = folder / f"{name}.onnx"
        write_onnx(image_inference(model), path, optimizations, examples, METADATA)
    return folder


@pytest.mark.parametrize("name, tolerance", [("none", 1e-5), ("float16", 1e-2), ("int8", 0.1)])
def test_logits_are_the_models_for_any_batch(files, model, name, tolerance):
    artifact = OnnxArtifact(files / f"{name}.onnx", threads=2)
    inputs = sparse_networks.images()["images"]
    expected = model(inputs, training=False).numpy()
    for batch in (1, 3, 64):
        logits = artifact.logits({"images": inputs[:batch]})
        assert logits.shape == (batch, 10) and logits.dtype == np.float32
        difference = np.abs(logits - expected[:batch]).max()
        assert difference <= tolerance * np.abs(expected).max()
    assert np.mean(logits.argmax(1) == expected.argmax(1)) > 0.9


@pytest.mark.parametrize(
    "name, dtype", [("none", np.float32), ("float16", np.float16), ("int8", np.int8)]
)
def test_no_weight_outside_the_masks_comes_back(files, model, name, dtype):
    arrays = OnnxArtifact(files / f"{name}.onnx").weights()
    assert len(arrays) == 4
    for kernel in sparse_networks.kernels(model):
        expected = np.transpose(kernel, (3, 2, 0, 1)) if kernel.ndim == 4 else kernel
        (stored,) = [array for array in arrays if array.shape == expected.shape]
        assert stored.dtype == dtype and not np.any(stored[expected == 0])
        lost = np.abs(expected[(stored == 0) & (expected != 0)])
        assert np.all(lost < np.abs(expected).max() / 100)


def test_int8_computes_what_numpy_does_with_as_many_values(tmp_path):
    inference = sparse_networks.two_layers()
    inputs = np.random.default_rng(0).random((32, 12)).astype(np.float32)
    write_onnx(inference, tmp_path / "f.onnx", ("int8",), {"images": inputs})
    weights = [(layer.kernel.numpy(), layer.bias.numpy()) for layer in inference.model.layers]
    expected = sparse_networks.int8_logits(weights, inputs, inputs, levels=64)
    exact = inference.model(inputs).numpy()
    logits = OnnxArtifact(tmp_path / "f.onnx").logits({"images": inputs})
    step = sparse_networks.output_step(exact)
    assert np.abs(logits - expected).max() <= 1.01 * step
    assert np.abs(expected - exact).max() > 1.01 * step


def test_the_file_tells_what_it_was_told(files):
    for name in KINDS:
        properties = onnx.load(files / f"{name}.onnx").metadata_props
        assert {each.key: each.value for each in properties} == METADATA


@pytest.mark.parametrize("optimizations", [("sparse",), ("float16", "int8")])
def test_what_does_not_go_together_is_refused(model, tmp_path, optimizations):
    found = ",".join(optimizations)
    message = rf"--optimize={found}: expected for onnx one of none \| float16 \| int8"
    with pytest.raises(UserError, match=message):
        write_onnx(image_inference(model), tmp_path / "f.onnx", optimizations)
    with pytest.raises(UserError, match="--optimize=int8: .*examples of images, got none"):
        write_onnx(image_inference(model), tmp_path / "f.onnx", ("int8",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 8, 3000])
def test_damaged_files_are_refused(files, tmp_path, keep):
    path = tmp_path / "damaged.onnx"
    path.write_bytes((files / "none.onnx").read_bytes()[:keep])
    with pytest.raises(UserError, match="damaged.onnx: not an ONNX file, or damaged"):
        OnnxArtifact(path)
    with pytest.raises(UserError, match="missing.onnx: no such file"):
        OnnxArtifact(tmp_path / "missing.onnx")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    pytest.importorskip("keras_nlp", reason="needs the extra `text`")
    return sparse_networks.bert(tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize("name, tolerance", [("none", 1e-5), ("float16", 1e-2), ("int8", 0.05)])
def test_texts_of_any_number_and_length(classifier, tmp_path, name, tolerance):
    write_onnx(text_inference(classifier.model), tmp_path / "f.onnx", KINDS[name])
    artifact = OnnxArtifact(tmp_path / "f.onnx")
    for count, length in ((3, 12), (1, 12), (2, 9)):
        inputs = {name: each[:count, :length] for name, each in tiny_bert.batch().items()}
        expected = classifier.model(inputs, training=False).numpy()
        difference = np.abs(artifact.logits(inputs) - expected).max()
        assert difference <= tolerance * np.abs(expected).max()
    for layer in classifier.masked_layers.values():
        masked = layer.kernel.numpy().reshape(80 if "output_dense" in layer.name else 16, -1) == 0
        of_shape = [array for array in artifact.weights() if array.shape == masked.shape]
        assert sum(not np.any(array[masked]) for array in of_shape) == 1


def test_weights_of_attention_are_quantized_too(classifier, tmp_path):
    write_onnx(text_inference(classifier.model, 12), tmp_path / "f.onnx", ("int8",))
    weights = OnnxArtifact(tmp_path / "f.onnx").weights()
    assert sum(array.dtype == np.int8 for array in weights) == len(classifier.masked_layers) + 1
    nodes = [node.op_type for node in onnx.load(tmp_path / "f.onnx").graph.node]
    assert "Einsum" not in nodes and nodes.count("MatMul") == 2
