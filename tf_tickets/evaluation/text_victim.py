"""A text classifier as something to attack: texts in, logits out, in batches, from a cache."""

import collections
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.data.tokens import Tokenizer
from tf_tickets.errors import UserError
from tf_tickets.models.saved_models import load_saved_model
from tf_tickets.runs.files import atomic_path, atomic_write_json, load_json

_INPUTS = ("token_ids", "segment_ids", "padding_mask")
_SIGNATURE = "serving_default"
_DESCRIPTION = "victim.json"
# Texts are padded to a multiple of this many tokens, so that the lengths of a batch's other
# texts do not change the last bits of an answer.
_LENGTH_STEP = 8
_CACHED_TEXTS = 2**16


class TextVictim:
    """A classifier in inference mode, of which only answers to texts are known.

    Args:
      logits_function: int32 token ids, segment ids and padding mask (1 for tokens), each
        `[batch, length]`, → logits `[batch, classes]`.
      tokenizer: texts → token ids and segment ids, padded with id 0.
      batch_size: the most texts that the model answers at a time.
    """

    def __init__(
        self,
        logits_function: Callable[..., np.ndarray],
        tokenizer: Tokenizer,
        batch_size: int = 64,
    ):
        self._logits_function = logits_function
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._cache = collections.OrderedDict()

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """The logits of texts, each a tuple of its parts; float64 `[texts, classes]`."""
        rows = _token_rows(*self._tokenizer(texts))
        answers = {row: self._cached(row) for row in rows if row in self._cache}
        unknown = dict.fromkeys(row for row in rows if row not in answers)
        answers.update(self._answer(unknown))
        self._keep({row: answers[row] for row in unknown})
        return np.stack([answers[row] for row in rows])

    def _answer(self, rows):
        answers = {}
        by_length = collections.defaultdict(list)
        for row in rows:
            by_length[_padded_length(row)].append(row)
        for length, alike in sorted(by_length.items()):
            for start in range(0, len(alike), self._batch_size):
                batch = alike[start : start + self._batch_size]
                answers.update(zip(batch, self._logits(batch, length), strict=True))
        return answers

    def _logits(self, rows, length):
        token_ids, segment_ids, padding_mask = (
            np.zeros([len(rows), length], np.int32) for _ in _INPUTS
        )
        for i, (tokens, segments) in enumerate(rows):
            ids = np.frombuffer(tokens, np.int32)
            token_ids[i, : len(ids)] = ids
            segment_ids[i, : len(ids)] = np.frombuffer(segments, np.int32)
            padding_mask[i, : len(ids)] = 1
        logits = self._logits_function(token_ids, segment_ids, padding_mask)
        return np.asarray(logits, np.float64)

    def _cached(self, row):
        self._cache.move_to_end(row)
        return self._cache[row]

    def _keep(self, answers):
        self._cache.update(answers)
        while len(self._cache) > _CACHED_TEXTS:
            self._cache.popitem(last=False)


def save_victim(
    folder: str | Path,
    model: keras.Model,
    vocabulary: Sequence[str],
    lowercase: bool,
    length: int,
) -> str:
    """Writes a classifier as a folder that other processes can load, atomically.

    Args:
      folder: replaced if it is there.
      model: dict of int32 token_ids, segment_ids, padding_mask `[batch, length]` → logits.
      vocabulary, lowercase, length: what the model's `Tokenizer` was built with.

    Returns:
      The hash of the weights and the vocabulary.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name) for name in _INPUTS])
    def serve(token_ids, segment_ids, padding_mask):
        values = (token_ids, segment_ids, padding_mask)
        logits = model(dict(zip(_INPUTS, values, strict=True)), training=False)
        return {"logits": tf.cast(logits, tf.float32)}

    # A plain module, because saving the Keras model would trace each of its layers as well.
    module = tf.Module()
    module.model_variables = model.variables
    description = {
        "vocabulary": list(vocabulary),
        "lowercase": lowercase,
        "length": length,
    }
    description["sha256"] = _sha256(model, description)
    with atomic_path(Path(folder)) as temporary:
        tf.saved_model.save(module, str(temporary), signatures={_SIGNATURE: serve})
        atomic_write_json(temporary / _DESCRIPTION, description)
    return description["sha256"]


def load_victim(folder: str | Path, batch_size: int = 64) -> TextVictim:
    """Loads what `save_victim` wrote.

    Raises:
      UserError: it is not there or damaged.
    """
    description = read_victim_description(folder)
    try:
        loaded = load_saved_model(Path(folder))
        loaded.signatures[_SIGNATURE]  # raises where there is none
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: expected a victim's SavedModel ({error})") from None
    tokenizer = Tokenizer(
        description["vocabulary"], description["lowercase"], description["length"]
    )

    def logits(*values):
        # Through `loaded`, because a signature alone does not keep its variables alive.
        signature = loaded.signatures[_SIGNATURE]
        return signature(**dict(zip(_INPUTS, map(tf.constant, values), strict=True)))["logits"]

    return TextVictim(logits, tokenizer, batch_size)


def read_victim_description(folder: str | Path) -> dict:
    """What `save_victim` wrote beside the SavedModel: vocabulary, lowercase, length, sha256.

    Raises:
      UserError: it is not there or damaged.
    """
    path = Path(folder) / _DESCRIPTION
    if not path.is_file():
        raise UserError(f"{folder}: expected a victim's folder, with {_DESCRIPTION}")
    return load_json(path)


def _token_rows(token_ids, segment_ids):
    """Each text as the model sees it, hashable: its token and segment ids without padding."""
    lengths = (token_ids != 0).sum(axis=1)
    return [
        (tokens[:length].tobytes(), segments[:length].tobytes())
        for tokens, segments, length in zip(token_ids, segment_ids, lengths, strict=True)
    ]


def _padded_length(row):
    tokens = len(row[0]) // np.dtype(np.int32).itemsize
    return -(-tokens // _LENGTH_STEP) * _LENGTH_STEP


def _sha256(model, description):
    digest = hashlib.sha256(repr(sorted(description.items())).encode())
    for variable in model.variables:
        digest.update(f"{variable.shape}".encode())
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()
