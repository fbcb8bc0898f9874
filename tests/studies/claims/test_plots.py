"""Figures of notebook 06: what is drawn is what the tables say, in the unit that the axis names,
and no text covers another.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from bogp import plotting
from bogp.errors import InvalidInput
from bogp.studies.claims import plots

RNG = np.random.default_rng(0)
SPARSITIES = (0.75, 0.9, 0.95)


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        plotting.use_style()
        yield
        plt.close("all")


def table(columns: str, *rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def crossed(lists: dict[str, tuple], mean: str = "mean", scale: float = 0.001) -> pd.DataFrame:
    """All combinations, with made-up means and intervals that are not symmetric about them."""
    made = pd.MultiIndex.from_product(lists.values(), names=list(lists)).to_frame(index=False)
    made[mean] = scale * RNG.uniform(0.2, 1.5, len(made))
    return made.assign(low=made[mean] - 0.1 * scale, high=made[mean] + 0.3 * scale)


PROTOCOLS = table(
    "protocol mean low high n",
    ("paper", 0.74, 0.5, 0.98, 5),
    ("calibrated", 0.975, 0.974, 0.976, 5),
    ("literal", 0.1, -0.1, 0.3, 4),
    ("wild", 0.9, 0.6, 1.2, 5),
)
SPREADS = crossed(
    {"set": ("bernoulli, s = 0.60", "released, s = 0.60"), "part": ("masks", "residual")}, "value"
)
NESTED = crossed(
    {"change": ("relabelled", "rewired", "shuffled"), "part": ("graphs", "versions", "residual")},
    "value",
)
PREDICTION = crossed(
    {
        "set": ("a", "b", "c", "d", "e"),
        "predictor": ("clustering", "all"),
        "model": ("ridge", "forest"),
    },
    "cv_r2",
    0.1,
).rename(columns={"low": "r2_low", "high": "r2_high"})
PREDICTION["ceiling"] = PREDICTION["set"].map(
    dict(zip("abcde", (0.5, 0.4, 0.3, 0.2, 0.1), strict=True))
)
REGRET = crossed(
    {
        "table": ("s = 0.60", "planted: hill"),
        "method": ("box", "random"),
        "recommender": ("observed", "posterior"),
    },
    "regret",
)
REGRET = REGRET.rename(columns={"low": "regret_low", "high": "regret_high"}).assign(
    low=9.0, high=9.0
)
CURSE = crossed(
    {
        "target_sparsity": SPARSITIES,
        "method": ("bogp", "random"),
        "measure": ("apparent", "fresh_validation", "fresh_test"),
    },
    scale=0.9,
)
GAPS = crossed(
    {"case": ("s = 0.60", "s = 0.90"), "against": ("glob_1", "random", "glob_1_best")}, "estimate"
)
DEFECTS = crossed({"defect": ("softmax twice", "raw inputs")})
POOLS = crossed(
    {"case": ("s = 0.95", "s = 0.97"), "arm": ("measured", "properties", "one family: properties")},
    "estimate",
).assign(ceiling=0.003, ceiling_low=0.002, ceiling_high=0.0045)
SLOPES = crossed(
    {"table": ("s = 0.60", "s = 0.90"), "method": ("box", "box_l2"), "signs": tuple("abcd")},
    "advantage",
)
MARGINS = crossed(
    {
        "arm": ("BoGP", "unpruned"),
        "case": ("s = 0.60", "s = 0.90"),
        "margin": (0.001, 0.002, 0.003),
    },
    "estimate",
)
MARGINS["verdict"] = np.where(
    (MARGINS["margin"] >= 0.002) & ((MARGINS["arm"] == "BoGP") | (MARGINS["case"] == "s = 0.60")),
    "holds",
    "cannot be decided",
)
REGION_SPREAD = crossed(
    {
        "dataset": ("mnist", "fashion-mnist"),
        "sparsity": SPARSITIES,
        "numbering": ("native", "relabelled"),
        "part": ("masks", "residual"),
    },
    "value",
)
ACCURACIES = 0.97 + 0.002 * RNG.normal(size=(30, 6)) + 0.001 * RNG.normal(size=6)

FIGURES: dict[str, Callable[[], Figure]] = {
    "settings": lambda: plots.settings(PROTOCOLS),
    "components": lambda: plots.spreads(SPREADS, "set", ("masks", "residual")),
    "components, stretched": lambda: plots.spreads(
        SPREADS.assign(high=0.08), "set", ("masks", "residual")
    ),
    "masks_sorted": lambda: plots.masks_sorted({f"set {i}": ACCURACIES for i in range(5)}),
    "prediction": lambda: plots.prediction(PREDICTION),
    "twins": lambda: plots.twins(
        np.eye(8, dtype=bool),
        ~np.eye(8, dtype=bool),
        np.geomspace(2, 0.1, 50),
        np.geomspace(2, 0.1, 50),
        ("one\na", "two\nb"),
    ),
    "nested": lambda: plots.spreads(NESTED, "change", ("graphs", "versions", "residual")),
    "regret": lambda: plots.regret(REGRET),
    "curse": lambda: plots.curse(CURSE),
    "gaps": lambda: plots.gaps(GAPS, 0.002),
    "gaps, stretched": lambda: plots.gaps(GAPS.assign(high=0.2), 0.002),
    "defects": lambda: plots.defects(DEFECTS, 0.002),
    "margins": lambda: plots.margins(MARGINS),
    "margins, no results": lambda: plots.margins(MARGINS[:0]),
    "pools": lambda: plots.pools(POOLS),
    "slopes": lambda: plots.slopes(SLOPES),
    "region_spread": lambda: plots.region_spread(REGION_SPREAD),
    "curse, no results": lambda: plots.curse(CURSE[:0]),
    "gaps, no results": lambda: plots.gaps(GAPS[:0]),
}


def shown(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_visible()]


def line(ax: Axes, label: str) -> np.ndarray:
    """Points of the line that the legend calls so, (points, 2)."""
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return np.asarray(found.get_xydata(), dtype=float)


def bars(ax: Axes, colour: str) -> np.ndarray:
    """Ends of the bars of this colour, (bars, 2 ends, 2)."""
    found = [
        c
        for c in ax.collections
        if type(c).__name__ == "LineCollection" and tuple(c.get_colors()[0]) == to_rgba(colour)
    ]
    return np.concatenate([np.asarray(c.get_segments()) for c in found])


def circles(ax: Axes) -> np.ndarray:
    """Points of the only series of dots, (points, 2)."""
    (found,) = [one for one in ax.lines if one.get_marker() == "o"]
    return np.asarray(found.get_xydata(), dtype=float)


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def ticks(ax: Axes, axis: str) -> list[str]:
    return [text.get_text() for text in getattr(ax, f"get_{axis}ticklabels")()]


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_and_every_axis_says_what_it_shows(name):
    figure = FIGURES[name]()
    figure.canvas.draw()
    axes = shown(figure)
    boxes = [ax.get_tightbbox() for ax in axes] + [
        one.get_window_extent() for one in figure.legends
    ]
    if figure.get_suptitle():
        boxes.append(figure._suptitle.get_window_extent())
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert (
                min(one.x1, other.x1) - max(one.x0, other.x0) < 1
                or min(one.y1, other.y1) - max(one.y0, other.y0) < 1
            ), name
    for ax in axes:
        assert ax.get_xlabel(), "each panel names what is along x"
        low, high = sorted(ax.get_xlim())
        labels = [
            t.get_window_extent()
            for t in ax.get_xticklabels()
            if t.get_text() and low <= t.get_position()[0] <= high
        ]
        assert labels, "each panel has numbers along x"
        assert all(
            a.x1 <= b.x0 or b.x1 <= a.x0 for a, b in zip(labels, labels[1:], strict=False)
        ), "numbers along x stand apart"
    words = " ".join(
        [
            figure.get_suptitle(),
            *(ax.get_title() for ax in axes),
            *(legend_texts(figure) if figure.legends else []),
        ]
    )
    assert "bars: 95 %" in words or name.startswith(("masks_sorted", "twins", "margins")), (
        "error bars say what they are"
    )


def test_settings_are_read_on_an_axis_of_accuracy_with_the_better_to_the_right():
    figure = plots.settings(PROTOCOLS, printed=0.96, margin=0.01)
    (ax,) = figure.axes
    np.testing.assert_allclose(circles(ax), np.c_[1 - PROTOCOLS["mean"], range(4)])
    assert ax.get_xlim()[0] > ax.get_xlim()[1] > 0 and ax.get_xscale() == "log"
    for tick, text in zip(ax.get_xticks(), ticks(ax, "x"), strict=True):
        assert float(text) == pytest.approx(1 - tick)
    assert ticks(ax, "y") == ["paper", "calibrated", "literal", "wild"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row on top"
    ends = bars(ax, "#0072B2")
    np.testing.assert_allclose(ends[1, :, 0], [0.024, 0.026])
    assert ends[3, 0, 0] < ax.get_xlim()[1], "an interval that passes accuracy 1 runs off the axis"
    assert legend_texts(figure) == ["within 0.01 of it", "the paper prints 0.960"]
    np.testing.assert_allclose(
        [one.get_xdata()[0] for one in ax.lines if one.get_linestyle() == "--"], [0.04]
    )
    assert "4 to 5 seeds" in figure.get_suptitle()


def test_spreads_are_drawn_in_thousandths_with_their_intervals():
    figure = plots.spreads(SPREADS, "set", ("masks", "residual"))
    (ax,) = figure.axes
    for part, label, colour in (
        ("masks", "between masks", "#0072B2"),
        ("residual", "residual (one training)", "#D55E00"),
    ):
        one = SPREADS[SPREADS["part"] == part]
        np.testing.assert_allclose(line(ax, label)[:, 0], 1000 * one["value"])
        np.testing.assert_allclose(bars(ax, colour)[:, :, 0], 1000 * one[["low", "high"]])
        np.testing.assert_allclose(bars(ax, colour)[:, 0, 1], line(ax, label)[:, 1])
        np.testing.assert_array_equal(line(ax, label)[:, 1].round(), [0, 1])
    assert legend_texts(figure) == ["between masks", "residual (one training)", "threshold: 2"]
    assert line(ax, "threshold: 2")[0, 0] == 2
    assert "thousandths" in ax.get_xlabel() and ax.get_xscale() == "linear"


def test_an_axis_becomes_logarithmic_only_where_the_range_asks_for_it_and_says_so():
    near, far = (
        SPREADS.assign(value=0.001, low=0.0, high=0.0199),
        SPREADS.assign(value=0.001, low=0.0, high=0.0201),
    )
    (ax,) = plots.spreads(near, "set", ("masks", "residual")).axes
    assert ax.get_xscale() == "linear" and "logarithmic" not in ax.get_xlabel()
    (ax,) = plots.spreads(far, "set", ("masks", "residual")).axes
    assert ax.get_xscale() == "symlog" and "linear up to 2, logarithmic beyond" in ax.get_xlabel()
    assert ticks(ax, "x") == ["0", "1", "2", "10"]
    assert ax.get_xlim()[0] < 0 and ax.get_xlim()[1] > 20.1
    effects = table(
        "defect mean low high", ("small", 0.0001, -0.0002, 0.0004), ("large", -0.3, -0.4, -0.2)
    )
    (ax,) = plots.defects(effects, 0.002).axes
    assert ax.get_xlim()[0] < -400 and 2 < ax.get_xlim()[1] < 10, (
        "the side without effects stays short"
    )
    assert [float(t) for t in ticks(ax, "x")] == [-250, -50, -10, -2, -1, 0, 1, 2]
    np.testing.assert_allclose(circles(ax)[:, 0], [0.1, -300])
    assert "logarithmic beyond" in ax.get_xlabel()


def test_an_estimate_outside_its_interval_or_without_one_is_drawn():
    odd = table(
        "change part value low high",
        ("rewired", "graphs", 0.0, 0.001, 0.003),
        ("rewired", "residual", 0.002, np.nan, np.nan),
    )
    (ax,) = plots.spreads(odd, "change", ("graphs", "versions", "residual")).axes
    np.testing.assert_allclose(line(ax, "between graphs")[0, 0], 0)
    np.testing.assert_allclose(bars(ax, "#0072B2")[0, :, 0], [1, 3])
    np.testing.assert_allclose(line(ax, "residual (one training)")[0, 0], 2)


def test_other_parts_than_those_of_the_figure_are_not_drawn():
    more = pd.concat([SPREADS, SPREADS.assign(part="icc", value=0.5)])
    assert legend_texts(plots.spreads(more, "set", ("masks", "residual"))) == [
        "between masks",
        "residual (one training)",
        "threshold: 2",
    ]
    more = pd.concat([REGION_SPREAD, REGION_SPREAD.assign(part="seeds", value=0.5)])
    label = "between masks, native"
    with_more, without = (
        line(plots.region_spread(one).axes[0], label) for one in (more, REGION_SPREAD)
    )
    np.testing.assert_array_equal(with_more, without)


def test_masks_sorted_stand_beside_what_equal_masks_would_show():
    rng = np.random.default_rng(1)
    masks, seeds = 40, 5
    accuracies = (
        0.9
        + 0.003 * rng.normal(size=(masks, seeds))
        + 0.02 * rng.normal(size=seeds)
        + 0.004 * rng.normal(size=(masks, 1))
    )
    figure = plots.masks_sorted({"one": accuracies, "two": accuracies[:, :2]})
    ax = figure.axes[0]
    means = 1000 * (np.sort(accuracies.mean(axis=1)) - accuracies.mean())
    np.testing.assert_allclose(
        line(ax, "a mask, mean over seeds"), np.c_[np.arange(1, masks + 1), means], atol=1e-9
    )
    # Residual of a least-squares fit with a dummy a mask and a seed.
    design = np.c_[np.repeat(np.eye(masks), seeds, axis=0), np.tile(np.eye(seeds), (masks, 1))]
    rest = accuracies.ravel() - design @ np.linalg.lstsq(design, accuracies.ravel(), rcond=None)[0]
    error = 1000 * np.sqrt(
        (rest**2).sum() / (masks * seeds - np.linalg.matrix_rank(design)) / seeds
    )
    (band,) = [c for c in ax.collections if c.get_label() == "± 1.96 residual standard errors"]
    corners = band.get_paths()[0].vertices
    for rank in (1, 20, masks):
        at = corners[corners[:, 0] == rank, 1]
        np.testing.assert_allclose(
            [at.min(), at.max()], means[rank - 1] + np.array([-1.96, 1.96]) * error, atol=1e-9
        )
    simulated = np.sort(error * rng.normal(size=(20_000, masks)), axis=1).mean(axis=0)
    np.testing.assert_allclose(
        line(ax, "expected if all masks were equal")[:, 1], simulated, atol=0.02 * error
    )
    assert [a.get_title() for a in figure.axes] == [
        "one\n40 masks x 5 seeds",
        "two\n40 masks x 2 seeds",
    ]
    with pytest.raises(InvalidInput):
        plots.masks_sorted({"one": accuracies[:, :1]})


def test_prediction_shows_each_set_with_its_ceiling_and_hopeless_fits_at_the_edge():
    worse = PREDICTION.copy()
    worse.loc[
        (worse["set"] == "b") & (worse["predictor"] == "all") & (worse["model"] == "forest"),
        ["cv_r2", "r2_low", "r2_high"],
    ] = (
        -7,
        -9,
        0.1,
    )
    figure = plots.prediction(worse)
    axes = shown(figure)
    assert [ax.get_title() for ax in axes] == list("abcde")
    assert ticks(axes[0], "y") == ["mean clustering coefficient", "all properties"]
    for ax, (_, one) in zip(axes, worse.groupby("set"), strict=True):
        assert line(ax, "noise ceiling")[0, 0] == one["ceiling"].iloc[0]
        np.testing.assert_allclose(line(ax, "ridge")[:, 0], one[one["model"] == "ridge"]["cv_r2"])
    np.testing.assert_allclose(line(axes[1], "forest")[1, 0], -0.5)
    np.testing.assert_allclose(bars(axes[1], "#D55E00")[1, :, 0], [-0.5, 0.1])
    assert "below -0.5 drawn there" in figure.get_suptitle()
    assert "below" not in plots.prediction(PREDICTION).get_suptitle()


def test_twins_show_both_masks_and_both_curves_one_on_top_of_the_other():
    first = np.kron(np.eye(2), np.ones((3, 3))).astype(bool)
    losses = np.geomspace(2, 0.1, 50)
    figure = plots.twins(
        first, first[::-1], losses, 2 * losses, ("disconnected\nclustering 1", "connected")
    )
    left, right, curves = figure.axes
    np.testing.assert_array_equal(left.images[0].get_array(), first)
    np.testing.assert_array_equal(right.images[0].get_array(), first[::-1])
    assert [ax.get_title() for ax in (left, right)] == ["disconnected\nclustering 1", "connected"]
    np.testing.assert_array_equal(line(curves, "disconnected")[:, 1], losses)
    np.testing.assert_array_equal(line(curves, "connected")[:, 1], 2 * losses)
    below, above = curves.lines
    assert (
        below.get_linewidth() > 2 * above.get_linewidth()
        and above.get_linestyle() == "--"
        and below.get_color() != above.get_color()
    )
    with pytest.raises(ValueError, match="zip"):
        plots.twins(first, first, losses, losses, ("one title",))


def test_regret_tells_recommenders_apart_in_each_table():
    figure = plots.regret(REGRET)
    assert legend_texts(figure) == ["best observed", "best posterior mean"]
    assert [ax.get_title() for ax in figure.axes] == ["s = 0.60", "planted: hill"]
    assert ticks(figure.axes[0], "y") == ["box (the paper's)", "random search"]
    for ax, (_, one) in zip(figure.axes, REGRET.groupby("table", sort=False), strict=True):
        for recommender, label, colour in (
            ("observed", "best observed", "#0072B2"),
            ("posterior", "best posterior mean", "#D55E00"),
        ):
            mine = one[one["recommender"] == recommender]
            np.testing.assert_allclose(line(ax, label)[:, 0], 1000 * mine["regret"])
            np.testing.assert_allclose(
                bars(ax, colour)[:, :, 0], 1000 * mine[["regret_low", "regret_high"]]
            )
        assert [one.get_xdata()[0] for one in ax.lines if one.get_linestyle() == "-"] == [0]
    markers = {
        one.get_marker() for one in figure.axes[0].lines if one.get_label().startswith("best")
    }
    assert len(markers) == 2


def test_curse_is_drawn_as_accuracy_against_sparsity():
    figure = plots.curse(CURSE[(CURSE["method"] == "bogp") | (CURSE["target_sparsity"] != 0.75)])
    assert [ax.get_title() for ax in figure.axes] == ["BoGP", "random masks"]
    assert ticks(figure.axes[1], "x") == ["0.75", "0.90", "0.95"]
    one = CURSE[
        (CURSE["method"] == "random")
        & (CURSE["measure"] == "fresh_validation")
        & (CURSE["target_sparsity"] != 0.75)
    ]
    np.testing.assert_allclose(
        line(figure.axes[1], "validation, fresh seeds"), np.c_[[1, 2], one["mean"]]
    )
    np.testing.assert_allclose(bars(figure.axes[1], "#D55E00")[:, :, 1], one[["low", "high"]])
    assert figure.axes[0].get_ylabel() == "accuracy"


@pytest.mark.parametrize("high, stretched", [(0.0199, False), (0.3, True)])
def test_gaps_stand_against_the_margin(high, stretched):
    made = GAPS.copy()
    made.loc[made.index[-1], "high"] = high
    figure = plots.gaps(made, 0.002)
    for ax, comparison in zip(figure.axes, ("glob_1", "random", "glob_1_best"), strict=True):
        one = made[made["against"] == comparison]
        assert ax.get_title() == f"BoGP minus {comparison}"
        np.testing.assert_allclose(circles(ax), np.c_[1000 * one["estimate"], [0, 1]])
        np.testing.assert_allclose(bars(ax, "#0072B2")[:, :, 0], 1000 * one[["low", "high"]])
        (band,) = ax.patches
        np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], [-2, 2])
        assert (ax.get_xscale() == "symlog") == stretched
        assert ax.get_xlim() == figure.axes[0].get_xlim(), "one scale for all"
    assert ("logarithmic beyond" in figure.get_suptitle()) == stretched
    assert legend_texts(figure) == ["within the margin (± 2)"]


def test_pools_show_each_arm_beside_its_ceiling():
    figure = plots.pools(POOLS, smallest=0.001)
    assert [ax.get_title() for ax in shown(figure)] == ["s = 0.95", "s = 0.97"]
    one = POOLS[POOLS["case"] == "s = 0.97"]
    ax = shown(figure)[1]
    np.testing.assert_allclose(line(ax, "the arm")[:, 0], 1000 * one["estimate"])
    np.testing.assert_allclose(line(ax, "ceiling")[:, 0], 3)
    (band,) = ax.patches
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], [0, 1])
    assert legend_texts(figure) == [
        "the arm",
        "ceiling",
        "less than the smallest gain of interest (1)",
    ]


def test_slopes_stand_in_the_order_of_their_advantage():
    figure = plots.slopes(SLOPES)
    for ax, (_, one) in zip(shown(figure), SLOPES.groupby("table"), strict=True):
        for method, label in (("box", "box (the paper's)"), ("box_l2", "box, nearest by L2")):
            points = line(ax, label)
            ordered = points[np.argsort(points[:, 0]), 1]
            mine = one.loc[one["method"] == method, "advantage"]
            np.testing.assert_allclose(ordered, 1000 * np.sort(mine))


def test_margins_show_the_smallest_at_which_an_arm_is_on_a_par_or_that_there_is_none():
    (ax,) = shown(plots.margins(MARGINS, 0.002))
    np.testing.assert_allclose(line(ax, "BoGP"), [[0, 2], [1, 2]])
    np.testing.assert_allclose(line(ax, "unpruned"), [[0, 2]])
    never = [one for one in ax.lines if one.get_marker() == "^" and len(one.get_xdata())]
    assert [one.get_xydata().tolist() for one in never] == [[[1.0, 3.0]]]
    np.testing.assert_allclose(line(ax, "the margin")[:, 1], 2)


def test_region_spread_has_a_series_for_each_part_and_numbering():
    figure = plots.region_spread(REGION_SPREAD)
    assert legend_texts(figure) == [
        f"{p}, {n}"
        for p in ("between masks", "residual (one training)")
        for n in ("native", "relabelled")
    ]
    one = REGION_SPREAD[
        (REGION_SPREAD["dataset"] == "mnist")
        & (REGION_SPREAD["part"] == "masks")
        & (REGION_SPREAD["numbering"] == "relabelled")
    ]
    drawn = line(figure.axes[0], "between masks, relabelled")
    np.testing.assert_allclose(drawn[:, 1], 1000 * one["value"])
    np.testing.assert_array_equal(drawn[:, 0].round(), [0, 1, 2])
    assert figure.axes[0].get_ylim()[0] <= 0, "a spread is seen from zero"
    assert "thousandths" in figure.axes[0].get_ylabel()


def test_related_draws_each_correlation_in_its_region_and_numbering():
    rows = [
        (r, n, c, k / 10, k / 10 - 0.1, k / 10 + 0.1)
        for k, (r, n, c) in enumerate(
            (r, n, c)
            for r in ("a", "b")
            for n in ("native", "relabelled")
            for c in ("clustering", "image_distance")
        )
    ]
    table = pd.DataFrame(rows, columns=["region", "numbering", "column", "mean", "low", "high"])
    figure = plots.related(table)
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    drawn = [
        sorted(float(x) for line in ax.lines if line.get_marker() in "os" for x in line.get_xdata())
        for ax in axes
    ]
    assert drawn == [pytest.approx([0.0, 0.1, 0.2, 0.3]), pytest.approx([0.4, 0.5, 0.6, 0.7])]
    assert [t.get_text() for t in axes[0].get_yticklabels()] == [
        "mean clustering coefficient",
        "image distance",
    ]
    assert "rank correlation" in axes[0].get_xlabel() and axes[0].get_xlim() == (-1, 1)
