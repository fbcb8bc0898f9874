"""Forms of flow against sums over explicit paths, and shares computed by hand."""

import dataclasses
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bogp import structural, zoo
from bogp.structural import flow
from bogp.studies.depth_pruning import forms, measure, subsets
from bogp.studies.depth_pruning.forms import FORMS
from bogp.studies.depth_pruning.measure import Study
from bogp.studies.depth_pruning.subsets import Sets

SETS = Sets(Study("char_transformer", "synthetic", 4, 16, draws=1, steps=2), 2)


class Chain(nn.Module):
    """Two residual layers on tokens (N, T, 4)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = x + torch.relu(self.first(x))
        return x + torch.relu(self.second(x))


@pytest.fixture(scope="module")
def chain():
    torch.manual_seed(0)
    model, x = Chain().eval(), torch.randn(5, 3, 4) + 1
    graph = structural.capture(model, x, level="residual")
    masks = [graph.without(s) for k in (0, 1, 2) for s in combinations(graph.candidates, k)]
    return model, x, graph, np.array(masks)


def by_hand(model, x, size):
    """Per layer the share of its branch, and of what goes around it, in the sum."""
    found = []
    with torch.no_grad():
        for layer in (model.first, model.second):
            branch = torch.relu(layer(x))
            sizes = [size(part, x + branch).sum() for part in (branch, x)]
            found.append([float(one / sum(sizes)) for one in sizes])
            x = x + branch
    return found


def centred(value):
    return value - value.mean(dim=(0, 1))


@pytest.mark.parametrize(
    ("form", "size"),
    [
        ("shares", lambda part, whole: part * whole),
        ("centred", lambda part, whole: centred(part) * centred(whole)),
        ("energies", lambda part, _: part**2),
    ],
)
def test_forms_along_paths_are_sums_over_explicit_paths(chain, form, size):
    model, x, graph, masks = chain
    (branch, around), (branch_2, around_2) = by_hand(model, x, size)
    found = forms.predictions(graph, masks, (x,))[form]
    left = [
        (kept * branch + around) * (kept_2 * branch_2 + around_2)
        for kept, kept_2 in masks[:, graph.candidates]
    ]
    np.testing.assert_allclose(found, 1 - np.array(left), atol=1e-6)


def test_forms_of_the_model_are_its_parts(chain):
    _, x, graph, masks = chain
    found = forms.predictions(graph, masks, (x,))
    assert list(found) == list(FORMS)
    model = flow.flow_model(graph, (x,))
    (moved,) = model.moments(masks).values()
    np.testing.assert_allclose(found["signal"], (1 - moved.signal.numpy()) ** 2)
    np.testing.assert_allclose(found["without_means"] - found["signal"], moved.noise.numpy())
    assert (found["flow"] >= found["without_means"] - 1e-12).all(), "means add what they moved"
    for form, gain in (("noise_as_signal", 0), ("flow", 0.5), ("noise_independent", 1)):
        expected = flow.flow_model(graph, (x,), noise_gain=gain).change(masks)
        np.testing.assert_allclose(found[form], expected)
    np.testing.assert_allclose(found.iloc[0], 0, atol=1e-9), "nothing is removed"


def test_units_stand_beside_the_losses_of_their_sets(tmp_path):
    measured = subsets.measured([SETS], 1, tmp_path)
    found = forms.predicted([SETS], 1, measured, tmp_path)
    assert found.blocks.tolist() == measured.blocks.tolist()
    np.testing.assert_allclose(found.change, measured.change)
    np.testing.assert_allclose(found.flow, measured.flow, rtol=1e-6)
    ranked = subsets.agreement(found, FORMS)
    assert ranked.method.tolist() == list(FORMS) and (ranked.evaluations == 0).all()
    kept = forms.record(SETS, 0)
    assert (tmp_path / kept[0]).exists() and kept[1]["forms"] == list(FORMS)
    other = forms.record(dataclasses.replace(SETS, most=3), 0)
    assert other[1] != kept[1], "other sets are other units"
    task = measure.task_of(SETS.study)
    graph = structural.capture(
        zoo.trained("char_transformer", 0), task.train.part(slice(4)).inputs, level="blocks"
    )
    again = forms.predictions(
        graph, subsets.masks_of(graph, 2), subsets.fresh(SETS.study, task)[0].inputs
    )
    pd.testing.assert_frame_equal(found[list(FORMS)], again, rtol=1e-6)
