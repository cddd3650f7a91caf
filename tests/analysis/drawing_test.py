"""Spreads over seeds: none of one seed, none beyond what is possible."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tf_tickets.analysis.drawing import PERCENT, draw_bars, draw_curve

NAN = float("nan")
# Two seeds, one seed, two seeds; the last mean ± sd would be 93 to 103.
CURVE = pd.DataFrame({"mean": [3.0, 40.0, 50.0, 98.0], "sd": [5.0, NAN, 2.0, 5.0]}, [1, 2, 3, 4])


def drawn(draw, curve):
    axes = Figure().subplots()
    draw(axes, curve, PERCENT, color="C0")
    return axes


def test_a_band_has_gaps_and_ends_at_the_limits():
    axes = drawn(draw_curve, CURVE)
    bands, rings = axes.collections
    heights = [path.vertices[:, 1] for path in bands.get_paths()]
    assert min(map(np.min, heights)) == 0 and max(map(np.max, heights)) == 100
    # No corner of a band lies where there is one seed.
    assert all(2 not in path.vertices[:, 0] for path in bands.get_paths())
    np.testing.assert_array_equal(rings.get_offsets(), [[2, 40]])


def test_bars_are_missing_where_there_is_one_seed():
    axes = drawn(draw_bars, CURVE)
    bars, rings = axes.collections
    ends = [segment[:, 1].tolist() for segment in bars.get_segments() if len(segment)]
    ends = [end for end in ends if not np.isnan(end).any()]
    assert ends == [[0, 8], [48, 52], [93, 100]]
    np.testing.assert_array_equal(rings.get_offsets(), [[2, 40]])


def test_one_seed_everywhere_needs_no_mark():
    for draw in (draw_curve, draw_bars):
        axes = drawn(draw, CURVE.assign(sd=NAN))
        vertices = [path.vertices for each in axes.collections for path in each.get_paths()]
        assert not [each for each in vertices if np.isfinite(each).all() and len(each)]
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), CURVE["mean"])
