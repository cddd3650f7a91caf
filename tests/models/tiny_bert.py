"""A BERT of two layers, 16 wide, with a vocabulary of a few words, in transformers' layout."""

import json

import numpy as np
import safetensors.numpy

WORDS = (
    "the a film is was not good bad dull funny movie plot it and very , . ' - un ##good ##s ##ly"
)
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split())

CONFIG = {
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def state_dict(seed=0):
    """Random weights under the names that transformers' `BertModel` gives them."""
    generator = np.random.default_rng(seed)
    tensors = {}

    def add(name, *shape, around=0.0):
        tensors[name] = (around + generator.normal(0, 0.3, shape)).astype(np.float32)

    def dense(name, inputs, outputs):
        add(f"{name}.weight", outputs, inputs)
        add(f"{name}.bias", outputs)

    def norm(name):
        add(f"{name}.weight", 16, around=1.0)
        add(f"{name}.bias", 16)

    rows = {"word": len(VOCABULARY), "position": 20, "token_type": 2}
    for kind, count in rows.items():
        add(f"embeddings.{kind}_embeddings.weight", count, 16)
    norm("embeddings.LayerNorm")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", 16, 16)
        dense(f"{layer}.attention.output.dense", 16, 16)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", 16, 24)
        dense(f"{layer}.output.dense", 24, 16)
        norm(f"{layer}.output.LayerNorm")
    dense("pooler.dense", 16, 16)
    return tensors


def write_folder(folder, tensors=None, **config):
    """Writes the encoder into a new folder; `config` changes entries of CONFIG."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    tensors = state_dict() if tensors is None else tensors
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


def batch(seed=1):
    """Three inputs of a BERT: a full one, a padded pair, and a short sentence."""
    generator = np.random.default_rng(seed)
    padding_mask = np.arange(12) < np.array([[12], [9], [3]])
    token_ids = generator.integers(1, len(VOCABULARY), (3, 12)) * padding_mask
    segment_ids = (np.arange(12) >= np.array([[5], [4], [12]])) & padding_mask
    arrays = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
    return {name: array.astype(np.int32) for name, array in arrays.items()}
