"""Tickets drawn at once, against sorting in plain Python."""

import numpy as np
import pytest

from tf_tickets.masking.drawing import magnitude_ticket, one_shot_ticket, random_ticket
from tf_tickets.masking.magnitude import layer_counts, select
from tf_tickets.masking.ticket import Provenance, Ticket, dense_ticket

PROVENANCE = Provenance("dense", "tiny", {}, "none", 7, 0, "abc", "", {})
SHAPES = {"query/kernel": (4, 2, 3), "dense/kernel": (5, 7), "pooler/kernel": (3, 3)}
DENSE = dense_ticket(SHAPES, PROVENANCE)
SIZE = 24 + 35 + 9


def random_arrays(seed, shapes=SHAPES, choices=None):
    generator = np.random.default_rng(seed)
    draw = generator.normal if choices is None else lambda size: generator.choice(choices, size)
    return {path: draw(size=shape).astype(np.float32) for path, shape in shapes.items()}


def counts(ticket):
    return {path: int(mask.sum()) for path, mask in ticket.masks.items()}


def brute_force(scores, parent, keep):
    """The best remaining weights of all layers; equal ones by layer, then in row-major order."""
    candidates = [
        (-float(scores[path][index]), layer, index)
        for layer, (path, mask) in enumerate(parent.masks.items())
        for index in np.ndindex(mask.shape)
        if mask[index]
    ]
    kept = {(layer, index) for _, layer, index in sorted(candidates)[:keep]}
    return {
        path: [(layer, index) in kept for index in np.ndindex(mask.shape)]
        for layer, (path, mask) in enumerate(parent.masks.items())
    }


def assert_masks(ticket, expected):
    for path, mask in ticket.masks.items():
        assert mask.ravel().tolist() == expected[path], path


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3, 0.5, 0.77, 0.99, 1.0])
@pytest.mark.parametrize("choices", [None, [-1.0, 0.0, 2.5]])
def test_one_shot_is_a_global_sort_with_exact_counts(sparsity, choices):
    scores = random_arrays(0, choices=choices)
    keep = int((1 - sparsity) * SIZE + 0.5)
    ticket = one_shot_ticket(scores, DENSE, sparsity)
    assert sum(counts(ticket).values()) == keep
    assert ticket.sparsity == pytest.approx(1 - keep / SIZE)
    assert_masks(ticket, brute_force(scores, DENSE, keep))
    same = select(scores, DENSE, layer_counts(scores, DENSE, sparsity))
    assert_masks(ticket, {path: mask.ravel().tolist() for path, mask in same.items()})


def test_it_is_the_order_of_the_sigmoid_and_finer_than_float32():
    scores = {path: 24 + array for path, array in random_arrays(1).items()}
    exact = {path: 1 / (1 + np.exp(-np.float64(array))) for path, array in scores.items()}
    ticket = one_shot_ticket(scores, DENSE, 0.4)
    assert_masks(ticket, brute_force(exact, DENSE, round(0.6 * SIZE)))
    rounded = {path: sigmoid.astype(np.float32) for path, sigmoid in exact.items()}
    assert all(np.all(sigmoid == 1) for sigmoid in rounded.values())


@pytest.mark.parametrize(
    "sparsity, kept_heads, kept_columns",
    [
        # By hand: 66 weights; heads (12 weights each) and columns (6 each), best first:
        # head 1, column 3, column 0, head 0, columns 1, 2, 4, 5, 6.
        (0.0, [0, 1], [0, 1, 2, 3, 4, 5, 6]),  # 66 wanted
        (0.7, [1], [3]),  # 19.8 wanted: 18, not 24
        (0.65, [1], [0, 3]),  # 23.1 wanted: 24, not 18
        (0.5, [0, 1], [0, 3]),  # 33 wanted: 36, not 24
        (0.92, [], []),  # 5.28 wanted: 0, not 12
        (1.0, [], []),
    ],
)
def test_groups_stay_or_go_together(sparsity, kept_heads, kept_columns):
    dense = dense_ticket({"query/kernel": (4, 2, 3), "dense/kernel": (6, 7)}, PROVENANCE)
    heads = np.array([0.5, 2.0], np.float32).reshape(1, 2, 1)
    columns = np.array([[1.0, 0.4, 0.3, 1.5, 0.2, 0.1, 0.0]], np.float32)
    ticket = one_shot_ticket({"dense/kernel": columns, "query/kernel": heads}, dense, sparsity)
    query, kernel = ticket.masks["query/kernel"], ticket.masks["dense/kernel"]
    for head in range(2):
        assert np.all(query[:, head] == (head in kept_heads))
    for column in range(7):
        assert np.all(kernel[:, column] == (column in kept_columns))


def test_more_of_two_equally_near():
    dense = dense_ticket({"a/kernel": (2, 2)}, PROVENANCE)
    ticket = one_shot_ticket({"a/kernel": np.array([[1.0, 2.0]])}, dense, 0.75)
    assert ticket.masks["a/kernel"].tolist() == [[False, True], [False, True]]


def test_a_drawn_ticket_says_where_it_comes_from():
    ticket = one_shot_ticket(random_arrays(0), DENSE, 0.5)
    assert ticket.provenance.algorithm == "one_shot"
    assert ticket.provenance.parent_sha256 == DENSE.sha256
    assert (ticket.provenance.seed, ticket.provenance.initial_weights_sha256) == (7, "abc")


@pytest.mark.parametrize("scores", [random_arrays(0) | {"x": np.ones(3)}, {}])
def test_other_weights_are_refused(scores):
    with pytest.raises(ValueError, match="log α of"):
        one_shot_ticket(scores, DENSE, 0.5)


def test_magnitudes_compete_for_the_places_of_the_network_within_the_parent():
    weights = random_arrays(2) | {"logits/kernel": np.full((3, 2), 100.0)}
    parent = magnitude_ticket(weights, DENSE, 0.3)
    retrained = random_arrays(3) | {"logits/kernel": np.full((3, 2), 100.0)}
    child = magnitude_ticket(retrained, parent, 0.5)
    for ticket, values, before, sparsity in (
        (parent, weights, DENSE, 0.3),
        (child, retrained, parent, 0.5),
    ):
        magnitudes = {path: np.abs(values[path]) for path in SHAPES}
        keep = int((1 - sparsity) * SIZE + 0.5)
        assert sum(counts(ticket).values()) == keep
        assert_masks(ticket, brute_force(magnitudes, before, keep))
    assert child.is_within(parent)
    assert child.provenance.parent_sha256 == parent.sha256
    with pytest.raises(ValueError, match="cannot keep"):
        magnitude_ticket(weights, child, 0.4)


def test_random_tickets_have_the_counts_of_each_layer_in_places_of_their_own():
    like = one_shot_ticket(random_arrays(4), DENSE, 0.6)
    tickets = [random_ticket(like, seed) for seed in (0, 0, 1)]
    assert all(counts(ticket) == counts(like) for ticket in tickets)
    assert tickets[0] == tickets[1] != tickets[2]
    assert not tickets[0].is_within(like)
    assert tickets[0].provenance.algorithm == "random"


def test_random_tickets_choose_every_place_equally_often():
    like = Ticket({"a/kernel": np.array([[True, True, False, False, False]])}, PROVENANCE)
    drawn = sum(random_ticket(like, seed).masks["a/kernel"].astype(int) for seed in range(2000))
    # 2 of 5 places: 800 of 2000, with a standard deviation of 22.
    assert drawn.sum() == 4000 and np.all(np.abs(drawn - 800) < 5 * 22)
