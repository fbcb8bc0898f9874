"""Networks by name: what they read, and that a seed gives the same one."""

import pytest
import torch

from bogp.errors import InvalidInput
from bogp.zoo import networks

INPUTS = {
    "rows": torch.zeros(3, 20),
    "images": torch.zeros(3, 1, 28, 28),
    "tokens": torch.zeros(3, 12, dtype=torch.long),
}
READS = {
    "dag": ("rows", "images"),
    "residual": ("images",),
    "inception": ("images",),
    "transformer": ("tokens",),
}


@pytest.mark.parametrize("kind", networks.KINDS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_a_kind_reads_its_inputs_and_refuses_others(kind, inputs):
    if inputs not in READS[kind]:
        with pytest.raises(InvalidInput, match="cannot read inputs of shape"):
            networks.untrained(kind, INPUTS[inputs], 5, 0)
        return
    before = torch.random.get_rng_state()
    model = networks.untrained(kind, INPUTS[inputs], 5, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training
    out = model(INPUTS[inputs])
    assert out.shape == ((3, 12, 5) if kind == "transformer" else (3, 5))
    torch.manual_seed(99)
    assert torch.equal(networks.untrained(kind, INPUTS[inputs], 5, 3)(INPUTS[inputs]), out)


def test_a_random_graph_has_a_seed_of_its_own():
    one = networks.untrained("dag", INPUTS["rows"], 5, 50_003, size="10-15", graph=3)
    assert one.parents == [list(p) for p in networks.random_parents("10-15", 3)]
    with pytest.raises(InvalidInput, match="'vgg'"):
        networks.untrained("vgg", INPUTS["images"], 5, 0)
