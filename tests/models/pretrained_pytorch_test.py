"""Public weights of ResNet-50 against PyTorch itself."""

import argparse

import numpy as np
import pytest

from tests.models import torchvision_resnet
from tests.models.torchvision_resnet import LAYOUTS, NARROW_LOGITS, narrow_state_dict
from tf_tickets.errors import UserError
from tf_tickets.models.pretrained import load_pretrained
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights, write_weights

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
safetensors = pytest.importorskip("safetensors.torch")

FILES = {
    "torchvision": "resnet50.pth",
    "fast_adversarial": "model_best.pth.tar",
    "robustness": "resnet50_linf_eps4.0.ckpt",
}


def narrow_model():
    return build_model("resnet_50_v1_5", (37, 45, 3), 3, 5, width_multiplier=1 / 16)


def message(source, model):
    with pytest.raises(UserError) as caught:
        load_pretrained(source, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Malicious:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def checkpoint(layout, arrays):
    """What the file of a layout holds."""
    state_dict = tensors(LAYOUTS[layout][0](arrays))
    if layout == "torchvision":
        return state_dict
    if layout == "fast_adversarial":
        others = {"epoch": 15, "arch": "resnet50", "best_prec1": torch.tensor(43.4)}
        momenta = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
        return others | {"state_dict": state_dict, "optimizer": momenta}
    return {"model": state_dict, "optimizer": {"state": {}}, "epoch": 90, "amp": None}


@pytest.mark.parametrize("normalizer", NARROW_LOGITS)
def test_the_logits_written_down_are_pytorchs(normalizer):
    arrays, batch = narrow_state_dict(), torchvision_resnet.images(37, 45)
    logits = torchvision_resnet.pytorch_logits(arrays, batch, *normalizer)
    np.testing.assert_allclose(logits, NARROW_LOGITS[normalizer], atol=1e-5)


@pytest.fixture(scope="module")
def arrays():
    return torchvision_resnet.state_dict(64, 1000)


@pytest.fixture(scope="module")
def model():
    return build_model("resnet_50_v1_5", (64, 64, 3), 1000, 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_of_the_whole_resnet_50_are_pytorchs(tmp_path, layout, arrays, model):
    path = tmp_path / FILES[layout]
    torch.save(checkpoint(layout, arrays), path)
    pretrained = load_pretrained(str(path), model)
    write_weights(model, pretrained.body | pretrained.head)
    batch = torchvision_resnet.images(64, 64)
    expected = torchvision_resnet.pytorch_logits(arrays, batch, *LAYOUTS[layout][1])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(model(batch) / scale, expected / scale, atol=1e-5)
    assert pretrained.num_classes == 1000


def test_safetensors_hold_the_same(tmp_path, arrays, model):
    torch.save(tensors(arrays), tmp_path / "weights.pt")
    safetensors.save_file(tensors(arrays), tmp_path / "weights.safetensors")
    first, second = (
        load_pretrained(str(tmp_path / f"weights.{suffix}"), model)
        for suffix in ("pt", "safetensors")
    )
    assert first.sha256 != second.sha256
    for path in read_weights(model):
        np.testing.assert_array_equal(
            (first.body | first.head)[path], (second.body | second.head)[path]
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("save", "suffix"), [(torch.save, "pt"), (safetensors.save_file, "safetensors")]
)
def test_half_precision_becomes_float32(tmp_path, save, suffix, dtype):
    path = tmp_path / f"weights.{suffix}"
    halves = {
        name: tensor.to(getattr(torch, dtype))
        for name, tensor in tensors(narrow_state_dict()).items()
    }
    save(halves, path)
    bias = load_pretrained(str(path), narrow_model()).head["logits/bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, halves["fc.bias"].float())


def test_what_a_file_holds_is_never_executed(tmp_path):
    state_dict = tensors(narrow_state_dict())
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": state_dict, "more": Malicious(tmp_path / "written")}, path)
    assert message(str(path), narrow_model()) == (
        f"{path}: damaged, or with Python objects besides tensors, which are never executed here; "
        "where you trust it, save its state dict alone and use that"
    )
    assert not (tmp_path / "written").exists()
    torch.load(path, weights_only=False)["more"].close()
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("contents", [[1, 2], {"epoch": 3}, {"state_dict": 5}, {1: torch.ones(2)}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, contents):
    path = tmp_path / "weights.pt"
    torch.save(contents, path)
    assert message(str(path), narrow_model()) == (
        f"{path}: expected a state dict, or a checkpoint with one as model, state_dict, "
        "model_state_dict or net"
    )


def loaded(path, contents):
    torch.save(contents, path)
    pretrained = load_pretrained(str(path), narrow_model())
    return pretrained.body | pretrained.head


def masked_first_kernel(state_dict):
    """As torch.nn.utils.prune leaves it, with every positive weight kept."""
    state_dict = dict(state_dict)
    kernel = state_dict.pop("conv1.weight")
    return state_dict | {"conv1.weight_orig": kernel, "conv1.weight_mask": (kernel > 0).float()}


@pytest.mark.parametrize(
    "contents",
    [
        lambda s: {"model": "resnet50", "state_dict": s},
        lambda s: {"net": s, "acc": 93.1, "epoch": 3},
        lambda s: {"model_state_dict": s},
        lambda s: {"state_dict": s, "best": np.float64(0.5), "top5": np.float32(0.1)},
        lambda s: {"state_dict": s, "losses": np.arange(4.0), "epoch": np.int64(3)},
        lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1, seeds=[1, 2])},
        lambda s: {f"_orig_mod.{name}": tensor for name, tensor in s.items()},
        lambda s: {f"module._orig_mod.{name}": tensor for name, tensor in s.items()},
        lambda s: {name: torch.nn.Parameter(t, t.is_floating_point()) for name, t in s.items()},
        lambda s: masked_first_kernel(s),
    ],
)
@pytest.mark.filterwarnings("error")
def test_checkpoints_in_usual_layouts(tmp_path, contents):
    state_dict = tensors(narrow_state_dict())
    held = contents(state_dict)
    weights = loaded(tmp_path / "weights.pt", held)
    expected = loaded(tmp_path / "plain.pt", state_dict)
    if "conv1.weight_mask" in held:
        expected["stem/conv/kernel"] = np.maximum(expected["stem/conv/kernel"], 0)
    assert weights.keys() == expected.keys()
    for path, array in weights.items():
        np.testing.assert_array_equal(array, expected[path])


def changed(name, change):
    state_dict = tensors(narrow_state_dict())
    return state_dict | {name: change(state_dict[name])}


def first_set(value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        (changed("layer1.0.conv2.weight", first_set(np.nan)), "layer1.0.conv2.weight holds NaN or"),
        (changed("fc.bias", first_set(-np.inf)), "fc.bias holds NaN or infinite values"),
        (changed("fc.bias", lambda t: t.double() * 1e300), "fc.bias holds NaN or infinite values"),
        (changed("bn1.running_var", first_set(-0.1)), "bn1.running_var holds a variance below 0"),
        (changed("fc.weight", lambda t: t.to_sparse()), "fc.weight is no ordinary tensor of"),
        (changed("fc.weight", lambda t: t.to("meta")), "fc.weight is no ordinary tensor of"),
        (changed("fc.weight", lambda t: t.to(torch.complex64)), "fc.weight is no ordinary tensor"),
        (
            changed("fc.weight", lambda t: torch.ones(1).expand(10**9, 128))
            | {"fc.bias": torch.ones(1).expand(10**9)},
            "damaged (its tensors have ",
        ),
        (changed("fc.bias", lambda t: t.numpy()), "expected a state dict, or a checkpoint with"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_sound_weight_is_refused_by_name(tmp_path, contents, found):
    path = tmp_path / "weights.pt"
    torch.save(contents, path)
    assert message(str(path), narrow_model()).startswith(f"{path}: {found}")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "complex64"])
def test_safetensors_of_types_that_are_no_weights_are_refused(tmp_path, dtype):
    path = tmp_path / "weights.safetensors"
    contents = changed("fc.weight", lambda tensor: tensor.to(getattr(torch, dtype)))
    safetensors.save_file(contents, path)
    assert len(message(str(path), narrow_model())) < len(str(path)) + 200


def test_nothing_runs_where_objects_are_left_out(tmp_path):
    state_dict = tensors(narrow_state_dict())
    path = tmp_path / "weights.pt"
    for hidden in (
        argparse.Namespace(lr=Malicious(tmp_path / "written")),
        np.array([Malicious(tmp_path / "written")], object),
    ):
        torch.save({"state_dict": state_dict, "more": hidden}, path)
        assert "never executed here" in message(str(path), narrow_model())
        assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("damage", [lambda data: b"<html>", lambda data: data[: len(data) // 2]])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "weights.pt"
    torch.save(tensors(narrow_state_dict()), path)
    path.write_bytes(damage(path.read_bytes()))
    assert message(str(path), narrow_model()).startswith(f"{path}: damaged, or with ")
