"""How much masks overlap: the relative similarity |m_i ∩ m_j| / |m_i ∪ m_j|.

"Data-Efficient Double-Win Lottery Tickets", section 5 and Figure A8, compares with it the
tickets of different pre-trainings. Random masks overlap too, the more the denser they are.
What they would come to stands beside every similarity, see `random_similarity`.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from tf_tickets.analysis.drawing import draw_curve, write_png
from tf_tickets.analysis.measurements import mean_and_sd, select
from tf_tickets.analysis.saved_tickets import SavedTicket, labels_of, levels
from tf_tickets.masking.ticket import Ticket

EVERY_LAYER = "all"
"""The `layer` of rows about whole networks."""

# More pairs than this are drawn in a panel for each search.
_PAIRS_IN_A_PANEL = 10
# More tickets than this leave no room for numbers in the matrix.
_NUMBERED_TICKETS = 12


def random_similarity(first: np.ndarray, second: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The similarity of random masks, from the densities alone.

    Two masks that keep fractions d₁ and d₂ of n weights, chosen at random and independently,
    have d₁ d₂ n weights in common on average. Their union then has (d₁ + d₂ − d₁ d₂) n, and
    the similarity is d₁ d₂ / (d₁ + d₂ − d₁ d₂), up to terms that vanish as n grows. Layers,
    each with densities of its own, add up in the numerator and in the denominator.

    Args:
      first: the layers' densities in one mask, in [0, 1].
      second: those in the other.
      sizes: the layers' numbers of weights.

    Returns:
      The similarity in [0, 1]; 1 where both masks are empty.
    """
    common = np.sum(first * second * sizes)
    union = np.sum((first + second) * sizes) - common
    return common / union if union else 1.0


def compare(first: Ticket, second: Ticket) -> pd.DataFrame:
    """The similarity of two tickets, of the whole network (`EVERY_LAYER`, first) and by layer.

    Returns:
      `layer` (a weight path), `weights` (their number), `density_1`, `density_2`,
      `similarity`; `random`, that of random masks of these densities, and
      `random_layerwise`, that of masks which are random within each layer, both in [0, 1].

    Raises:
      ValueError: the tickets cover different weights.
    """
    overall = first.intersection_over_union(second)
    rows = [_layer(path, mask, second.masks[path]) for path, mask in first.masks.items()]
    layers = pd.DataFrame(rows)
    layers["random_layerwise"] = layers["random"]
    sizes = layers["weights"]
    whole = {
        "layer": EVERY_LAYER,
        "weights": sizes.sum(),
        "density_1": first.density,
        "density_2": second.density,
        "similarity": overall,
        "random": random_similarity(first.density, second.density, 1),
        "random_layerwise": random_similarity(layers["density_1"], layers["density_2"], sizes),
    }
    return pd.concat([pd.DataFrame([whole]), layers], ignore_index=True)


def similarity_curves(saved: Iterable[SavedTicket]) -> pd.DataFrame:
    """Compares tickets of equal level: each two searches of one seed, and each search's seeds.

    Args:
      saved: of equal names and shapes, see `saved_tickets.comparable`.

    Returns:
      The columns of `compare`, and `first` and `second` (names of the searches, equal where
      seeds are compared), `seed_1`, `seed_2`, `level` and `sparsity`, the mean of the two.
    """
    saved = list(saved)
    labels = labels_of([entry.cell for entry in saved])
    found = []
    for level, entries in levels(saved).items():
        tickets = {entry.cell: entry.load() for entry in entries}
        for one, other in itertools.combinations(tickets, 2):
            if one.seed != other.seed and labels[one] != labels[other]:
                continue
            rows = compare(tickets[one], tickets[other])
            rows.insert(0, "sparsity", 1 - (rows["density_1"] + rows["density_2"])[0] / 2)
            named = {
                "first": labels[one],
                "second": labels[other],
                "seed_1": one.seed,
                "seed_2": other.seed,
                "level": level,
            }
            found.append(rows.assign(**named)[[*named, *rows.columns]])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def similarity_matrix(tickets: Mapping[str, Ticket]) -> pd.DataFrame:
    """Compares every two of some tickets, in the order of their names here.

    Returns:
      The columns of `compare`, and `first` and `second`, the names.

    Raises:
      ValueError: the tickets cover different weights.
    """
    found = [
        compare(tickets[one], tickets[other]).assign(first=one, second=other)
        for one, other in itertools.combinations(tickets, 2)
    ]
    rows = pd.concat(found, ignore_index=True)
    return rows[["first", "second", *rows.columns[:-2]]]


def draw_similarity_curves(rows: pd.DataFrame, title: str, path: Path) -> Path:
    """Figure A8, top: similarity over sparsity, mean and standard deviation over seeds.

    Args:
      rows: of `similarity_curves`, at least one.
      title: what was searched, for the heading.
      path: the PNG.
    """
    rows = select(rows, layer=EVERY_LAYER)
    pairs = list(dict.fromkeys(zip(rows["first"], rows["second"])))
    names = list(dict.fromkeys(itertools.chain.from_iterable(zip(*pairs))))
    panels = {"": pairs} if len(pairs) <= _PAIRS_IN_A_PANEL else _pairs_by_search(pairs, names)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(8, 4.5 * columns), 4.5 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, (name, shown) in itertools.zip_longest(
        grid.flat, panels.items(), fillvalue=(None, ())
    ):
        axes.set_visible(bool(shown))
        _draw_pairs(axes, rows, shown, names, name)
    for axes in grid[:, 0]:
        axes.set_ylabel(r"relative similarity $|m_i \cap m_j| / |m_i \cup m_j|$ (%)")
    figure.suptitle(f"{title}: how much the masks of equal level overlap")
    return write_png(figure, path)


def draw_similarity_matrix(rows: pd.DataFrame, names: Sequence[str], path: Path) -> Path:
    """A heat map of the similarity of every two tickets, random masks' in brackets.

    Args:
      rows: of `similarity_matrix`.
      names: of the tickets, in the order to show.
      path: the PNG.
    """
    rows = select(rows, layer=EVERY_LAYER)
    similarity, chance = (_square(rows, names, column) for column in ("similarity", "random"))
    size = 3 + 0.75 * len(names)
    figure = Figure(figsize=(size + 1.5, size), layout="constrained")
    axes = figure.subplots()
    brightest = np.nanmax(similarity)
    image = axes.imshow(100 * similarity, vmin=0, vmax=100 * brightest, cmap="viridis")
    axes.set_facecolor("lightgrey")  # The diagonal, which says nothing.
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    if len(names) <= _NUMBERED_TICKETS:
        for row, column in itertools.permutations(range(len(names)), 2):
            value = similarity[row, column]
            text = f"{100 * value:.1f}\n({100 * chance[row, column]:.1f})"
            colour = "black" if value > 0.6 * brightest else "white"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, label="relative similarity (%)", shrink=0.8)
    axes.set_title("relative similarity of masks in %\n(in brackets: random masks as dense)")
    return write_png(figure, path)


def _layer(path, first, second):
    common = np.count_nonzero(first & second)
    kept = np.array([np.count_nonzero(first), np.count_nonzero(second)])
    union = kept.sum() - common
    density_1, density_2 = kept / first.size
    return {
        "layer": path,
        "weights": first.size,
        "density_1": density_1,
        "density_2": density_2,
        "similarity": common / union if union else 1.0,
        "random": random_similarity(density_1, density_2, first.size),
    }


def _pairs_by_search(pairs, names):
    return {name: [pair for pair in pairs if name in pair] for name in names}


def _draw_pairs(axes, rows, pairs, names, name):
    """The curves of some pairs; in the panel of one search, named after the other one."""
    for pair in pairs:
        of_pair = select(rows, first=pair[0], second=pair[1])
        number = names.index(_other(pair, name)) if name else pairs.index(pair)
        # Other colours than those of single searches: these are pairs.
        colour = colormaps["Dark2" if len(names) <= 8 else "tab20b"](number % 20)
        curve = 100 * mean_and_sd(_values(of_pair, "similarity"), "sparsity")
        label = _other(pair, name) if name else f"{pair[0]} and {pair[1]}"
        if pair[0] == pair[1]:
            label = f"{pair[0]}, different seeds"
        draw_curve(axes, curve, color=colour, marker=".", label=label)
        for column, style in (("random", "--"), ("random_layerwise", ":")):
            curve = mean_and_sd(_values(of_pair, column), "sparsity")
            axes.plot(
                curve.index, 100 * curve["mean"], style, color="grey", linewidth=0.8, zorder=3
            )
    axes.plot([], [], "--", color="grey", label="random masks, as dense")
    axes.plot([], [], ":", color="grey", label="random within layers, as dense")
    axes.set(title=f"{name} with" if name else "", xlabel="sparsity (%)", ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def _values(rows, column):
    """Rows for `mean_and_sd` over sparsity; of equal level, seeds differ a little in it."""
    sparsity = 100 * rows.groupby("level")["sparsity"].transform("mean")
    return rows.assign(value=rows[column], sparsity=sparsity)


def _other(pair, name):
    return pair[1] if pair[0] == name else pair[0]


def _square(rows, names, column):
    values = np.full((len(names), len(names)), np.nan)
    for row in rows.itertuples():
        places = names.index(row.first), names.index(row.second)
        values[places] = values[places[::-1]] = getattr(row, column)
    return values
