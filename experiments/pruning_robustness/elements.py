"""Algorithm 2 of "On the Effect of Pruning on Adversarial Robustness": one element at a time."""

import pandas as pd

from experiments.pruning_robustness.results import ACCURACIES, ATTACKS
from tf_tickets.analysis.measurements import select

DROPS = (0, 1, 2, 3, 4, 5)
"""Algorithm 2's i: the drops in clean accuracy, in percentage points."""

# What the networks of one model are told apart by.
_KEYS = ["seed", "element_kind", "element_place", "element_index"]

# Accuracies are counts over n images: two of them, one shifted by whole percentage points, are
# equal or at least 1/(100 n) apart, which is more than this for 50,000 images. Less is
# rounding, float32's included.
_ROUNDING = 1e-7


def element_accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracies of networks that lack one element.

    Returns:
      `model`, `seed`, `element_kind` (filters, blocks or nothing), `element_place`,
      `element_index`, `attack`, a name in `ACCURACIES`, and `value`, in [0, 1].
    """
    tests = select(rows, split="test", quantity="accuracy")
    tests = tests[tests["attack"].isin(list(ACCURACIES)) & (tests["element_kind"] != "")]
    return tests[["model", *_KEYS, "attack", "value"]]


def single_elements(rows: pd.DataFrame) -> pd.DataFrame:
    """Algorithm 2: the elements without which a network is more robust, hardly less accurate.

    An element counts for a drop of i percentage points if the network without it is more
    accurate under the attack than the whole one, and on clean images more accurate than
    the whole one less i points. Both are strict, as in the algorithm: L_0 has the elements
    whose removal raises the clean accuracy.

    Args:
      rows: of one network.

    Returns:
      `seed`, `element_kind` (filters or blocks), `attack`, `drop` (i), `count` (|L_i|),
      `elements` (|S|) and `value`, their ratio, in [0, 1].
    """
    every = element_accuracies(rows)
    wide = every.pivot(index=_KEYS, columns="attack", values="value")
    wide = wide.reindex(columns=list(ACCURACIES)).astype(float)
    is_whole = wide.index.get_level_values("element_kind") == "nothing"
    whole, wide = wide[is_whole].droplevel(_KEYS[1:]), wide[~is_whole]
    gains = wide - whole.reindex(wide.index.get_level_values("seed")).to_numpy()
    found = []
    for attack in ATTACKS:
        measured = gains[[attack, "natural"]].dropna()
        for drop in DROPS:
            counts = (measured[attack] > _ROUNDING) & (measured["natural"] + drop / 100 > _ROUNDING)
            shares = counts.groupby(_KEYS[:2]).agg(count="sum", elements="count")
            found.append(shares.reset_index().assign(attack=attack, drop=drop))
    shares = pd.concat(found, ignore_index=True)
    return shares.assign(value=shares["count"] / shares["elements"])


def paper_shares(paper: pd.DataFrame, suffix: str = "") -> dict[int, float]:
    """Drop → the share that the paper's text gives, in %.

    Args:
      paper: of its numbers those of one kind of element and one attack.
      suffix: "" for exact ones, "_below" for those that it says are less than a number.
    """
    quantities = {f"share_at_{drop}{suffix}": drop for drop in DROPS}
    given = paper[paper["quantity"].isin(quantities)]
    return {quantities[name]: value for name, value in zip(given["quantity"], given["value"])}
