"""How two tickets of the same network differ, and how alike random ones would be."""

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.signal import fftconvolve
from scipy.stats import hypergeom

from tf_tickets.analysis.similarity import EVERY_LAYER, compare
from tf_tickets.analysis.ticket_inspection import in_order, records
from tf_tickets.masking.ticket import Ticket

# Numbers of common weights further from their mean than this many standard deviations (and
# this many weights) have a probability that no float sees.
_REACH = 12


class Comparison(NamedTuple):
    """How two tickets of the same network differ.

    Attributes:
      layers: of `compare_layers`.
      same_initial_weights: by the hashes they state; None if one does not.
      differences: field of the provenance → its two values, where these differ.
      parent: "first" if the second was pruned from it, "second" the other way round, or "".
    """

    layers: pd.DataFrame
    same_initial_weights: bool | None
    differences: dict[str, tuple]
    parent: str

    @property
    def total(self) -> pd.Series:
        """The row of `layers` about all of them."""
        return self.layers.iloc[0]

    def to_json(self) -> dict:
        """All of it as JSON values."""
        return self._asdict() | {"layers": records(self.layers)}


def compare_tickets(first: Ticket, second: Ticket) -> Comparison:
    """Compares masks and provenance.

    Raises:
      ValueError: the tickets cover different weights.
    """
    one, other = first.provenance, second.provenance
    hashes = {one.initial_weights_sha256, other.initial_weights_sha256}
    parents = {"first": other.parent_sha256 == first.sha256}
    parents["second"] = one.parent_sha256 == second.sha256
    return Comparison(
        compare_layers(first, second),
        None if "" in hashes else len(hashes) == 1,
        _differences(*(_flat(dataclasses.asdict(each)) for each in (one, other))),
        next((name for name, is_parent in parents.items() if is_parent), ""),
    )


def compare_layers(first: Ticket, second: Ticket) -> pd.DataFrame:
    """How much the masks of two tickets overlap.

    Returns:
      A row for all layers (`EVERY_LAYER`), then one for each: `layer`, `weights`, `density_1`,
      `density_2`, `intersection_over_union`, `chance` (`expected_similarity` of these layers),
      `nesting`: "equal", "first within second", "second within first" or "neither".

    Raises:
      ValueError: the tickets cover different weights.
    """
    measured = compare(first, second).rename(columns={"similarity": "intersection_over_union"})
    layers = {path: [(mask, second.masks[path])] for path, mask in in_order(first)}
    groups = {EVERY_LAYER: [pair for pairs in layers.values() for pair in pairs]} | layers
    added = {
        "chance": [expected_similarity(pairs) for pairs in groups.values()],
        "nesting": [_nesting(pairs) for pairs in groups.values()],
    }
    rows = measured.set_index("layer").loc[list(groups)].reset_index().assign(**added)
    return rows.drop(columns=["random", "random_layerwise"])


def expected_similarity(layers: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The intersection over union to expect of two random masks that keep as many weights.

    Exact: in each layer of n weights, the masks are any two that keep K₁ and K₂ of them, all
    equally likely. The number of common weights then is hypergeometric, P(i) = C(K₁, i)
    C(n − K₁, K₂ − i) / C(n, K₂), that of several layers a sum of independent ones, and the
    expectation is of i / (K₁ + K₂ − i). `similarity.random_similarity` is its limit for large n.

    Args:
      layers: the two masks of each, of equal shape.

    Returns:
      In [0, 1]; 1 where all masks are empty.
    """
    probabilities, least, kept = np.ones(1), 0, 0
    for first, second in layers:
        counts = first.size, int(np.count_nonzero(first)), int(np.count_nonzero(second))
        common = _likely_common(*counts)
        probabilities = fftconvolve(probabilities, hypergeom.pmf(common, *counts))
        least += int(common[0])
        kept += sum(counts[1:])
    if not kept:
        return 1.0
    common = least + np.arange(len(probabilities))
    return float(np.sum(probabilities * common / (kept - common)) / np.sum(probabilities))


def _likely_common(size, first, second):
    """The numbers of common weights that have a probability worth the name."""
    mean = first * second / size
    spread = math.sqrt(mean * (size - first) * (size - second) / size / max(1, size - 1))
    reach = _REACH * (1 + spread)
    least = max(0, first + second - size, math.floor(mean - reach))
    return np.arange(least, min(first, second, math.ceil(mean + reach)) + 1)


def _nesting(pairs):
    within = not any(np.any(first & ~second) for first, second in pairs)
    around = not any(np.any(second & ~first) for first, second in pairs)
    if within and around:
        return "equal"
    if within or around:
        return "first within second" if within else "second within first"
    return "neither"


def _flat(provenance):
    """Its fields, with those of the model's configuration and the versions one by one."""
    fields = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            fields |= {f"{name}.{key}": part for key, part in value.items()}
        else:
            fields[name] = value
    return fields


def _differences(one, other):
    return {
        name: (one.get(name), other.get(name))
        for name in one | other
        if one.get(name) != other.get(name)
    }
