"""Figures as files: small, and to the eye what was drawn."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from bogp import plotting


def png(figure: Figure, **how) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **how)
    return buffer.getvalue()


def pixels(file: bytes) -> NDArray[np.int64]:
    """(height, width, 3) levels, 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)


def colours(file: bytes) -> int:
    """How many different colours there are."""
    return len(np.unique(pixels(file).reshape(-1, 3), axis=0))


@pytest.fixture
def bands():
    """A figure as most are: lines with bands that cross, and labels."""
    figure = Figure(dpi=200)
    axes, x = figure.subplots(), np.arange(8)
    for colour, rise in zip(plotting.DOT_COLOURS[:2], (0.02, 0.04), strict=True):
        mean = 0.5 + rise * x
        axes.fill_between(x, mean - 0.05, mean + 0.05, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean, "o-", color=colour, label=colour)
    axes.set(xlabel="evaluations", ylabel="accuracy")
    axes.legend()
    return figure


def test_a_small_figure_looks_the_same_in_less_than_half_of_the_bytes(bands):
    whole = png(bands)
    few = plotting.small(whole)
    assert 256 < colours(whole) < 2000
    assert colours(few) <= 256
    assert len(few) < 0.5 * len(whole)
    before, after = pixels(whole), pixels(few)
    moved = np.abs(before - after)
    assert moved.max() <= 20 and moved.mean() < 0.2
    np.testing.assert_array_equal(after[(before == 255).all(-1)], 255)  # paper stays white
    assert plotting.small(whole) == few


def test_a_colour_map_stays_smooth():
    figure = Figure(dpi=200)
    left, right = figure.subplots(1, 2)
    points = np.random.default_rng(1).random((3, 400))
    left.scatter(*points[:2], c=points[2], cmap="coolwarm", alpha=0.4)
    figure.colorbar(right.imshow(points[:, :20], cmap="viridis"))
    whole = png(figure)
    few = plotting.small(whole)
    np.testing.assert_array_equal(pixels(few), pixels(whole))
    assert len(few) < len(whole)


def test_a_figure_of_few_colours_keeps_them_all():
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.tile(colours, (50, 1)).reshape(50, 256, 3)).save(buffer, "png")
    few = plotting.small(buffer.getvalue())
    np.testing.assert_array_equal(pixels(few), pixels(buffer.getvalue()))


def test_a_transparent_ground_becomes_white():
    few = plotting.small(png(plt.Figure(), transparent=True))
    assert (pixels(few) == 255).all()


def test_a_figure_is_saved_small_with_its_dots_an_inch_and_twice_the_same(home, bands):
    pdf, saved = plotting.save(bands, "t", "s0.60_trace")
    assert (pdf.name, saved.name) == ("s0.60_trace.pdf", "s0.60_trace.png")
    image = Image.open(saved)
    assert image.mode == "P" and "Software" not in image.info
    assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    first = [path.read_bytes() for path in (pdf, saved)]
    assert [path.read_bytes() for path in plotting.save(bands, "t", "s0.60_trace")] == first
