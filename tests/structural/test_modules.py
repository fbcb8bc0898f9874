"""Modules that people wrap, fold and store: what is traced inside, what is refused by name."""

import copy
import io

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from bogp import structural
from bogp.errors import InvalidInput, NotCapturable
from bogp.structural import taylor
from bogp.structural.gates import Examples, leave_one_out
from bogp.structural.surgery import remove
from bogp.structural.traced.containers import alike
from tests.structural.models import Linears, MultiBranch, make, x
from tests.structural.traced.test_containers import edge_of, saved_and_loaded


def outputs_mean(outputs, targets):
    return outputs.flatten(1).mean(1)


def without(model, name):
    """The model whose layer of that name gives zeros: its branch is gone."""
    less = copy.deepcopy(model)
    nn.init.zeros_(less.get_submodule(name).weight)
    nn.init.zeros_(less.get_submodule(name).bias)
    return less


# B5: wrappers


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        lambda m: nn.DataParallel(torch.compile(m)),
        lambda m: torch.compile(nn.DataParallel(m)),
    ],
    ids=["DataParallel", "compile", "both", "both, the other way"],
)
def test_what_is_put_around_a_network_is_taken_off(wrap):
    model, inputs = make(MultiBranch), x(4, 6)
    graph = structural.capture(wrap(model), inputs)
    assert graph.traced_by == "torch.fx" and len(graph.candidates) == 3
    cut = remove(graph, graph.without([edge_of(graph, "tanh")]))
    assert cut.state_dict().keys() == {k for k in model.state_dict() if not k.startswith("b.")}
    with torch.no_grad():
        assert alike(cut(inputs), without(model, "b")(inputs))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_networks_are_followed_into_wrapped_parts(wrap):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = wrap(MultiBranch()), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.inner(x))

    model, inputs = make(Whole), x(4, 6)
    graph = structural.capture(model, inputs)
    assert len(graph.candidates) == 3
    cut = remove(graph, graph.without([edge_of(graph, "tanh")]))
    inner = "inner.module" if wrap is nn.DataParallel else "inner._orig_mod"
    assert cut.state_dict().keys() == {
        k for k in model.state_dict() if not k.startswith(f"{inner}.b.")
    }
    with torch.no_grad():
        assert alike(cut(inputs), without(model, f"{inner}.b")(inputs))


class Layer(nn.Module):
    """What nn.TransformerEncoderLayer does (norm first), by hand and without one of its parts."""

    def __init__(self, layer, gone=""):
        super().__init__()
        self.layer, self.gone = layer, gone

    def forward(self, x):
        if self.gone != "attention":
            read = self.layer.norm1(x)
            x = x + self.layer.self_attn(read, read, read, need_weights=False)[0]
        if self.gone == "mlp":
            return x
        return x + self.layer.linear2(torch.relu(self.layer.linear1(self.layer.norm2(x))))


@pytest.mark.parametrize("frozen", [False, True])
def test_transformer_layers_of_torch_are_followed_inside(frozen):
    """In evaluation mode they run as one fused operation, in which there is no edge."""

    class Encoded(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.encoder(x))

    model, inputs = make(Encoded).requires_grad_(not frozen), x(3, 5, 6)
    graph = structural.capture(model, inputs)
    assert torch.backends.mha.get_fastpath_enabled()
    examples = Examples(inputs, torch.zeros(3))
    changes = dict(zip(graph.candidates, leave_one_out(graph, examples, outputs_mean), strict=True))
    assert len(changes) >= 4
    first, second = model.encoder.layers
    with torch.no_grad():
        full = model(inputs).mean().item()
        truths = [
            model.head(Layer(second, two)(Layer(first, one)(inputs))).mean().item() - full
            for one, two in (("attention", ""), ("mlp", ""), ("", "attention"), ("", "mlp"))
        ]
    for truth in truths:
        at = min(changes, key=lambda e: abs(changes[e] - truth))
        assert changes[at] == pytest.approx(truth, abs=1e-5)
        cut = remove(graph, graph.without([at]))
        with torch.no_grad():
            assert cut(inputs).mean().item() - full == pytest.approx(truth, abs=1e-5)
        assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in model.parameters())


# B5: items that are assigned, seen by torch.export alone


class Assigns(Linears):
    def __init__(self):
        super().__init__("a", "b", "c")

    def forward(self, x):
        h = self.a(x) + self.c(x)
        h[:, :2] = self.b(x)[:, 2:4]
        h[..., 3] = 0.5
        h[:, -1:] += x[:, :1]
        return h + x


class AssignsByMask(Linears):
    def __init__(self):
        super().__init__("a", "b", "c")

    def forward(self, x):
        h = self.a(x) + self.c(x)
        h[h > 0.5] = 0.25
        return h + self.b(x)


@pytest.mark.parametrize("network", [Assigns, AssignsByMask])
def test_items_that_are_assigned(network):
    model, inputs = make(network), x(4, 6)
    graph = structural.capture(model, inputs)
    truth = without(model, "c")
    examples = Examples(inputs, torch.zeros(4))
    with torch.no_grad():
        change = (truth(inputs).mean() - model(inputs).mean()).item()
    found = leave_one_out(graph, examples, outputs_mean)
    at = graph.candidates[int(abs(found - change).argmin())]
    assert abs(found - change).min() < 1e-6
    with torch.no_grad():
        for others in (inputs, x(3, 6, seed=8) * 3):
            assert alike(remove(graph, graph.without([at]))(others), truth(others))


# B5: derivatives that torch does not have


@pytest.mark.parametrize("layer", [nn.Hardsigmoid])
def test_a_missing_second_derivative_is_named(layer):
    class Bent(Linears):
        def __init__(self):
            super().__init__("a", "b")
            self.act = layer()

        def forward(self, x):
            return self.act(self.a(x) + self.b(x))

    graph = structural.capture(make(Bent), x(4, 6))
    examples = Examples(x(4, 6), torch.zeros(4))

    def bent(outputs, targets):
        return outputs.square().mean(1)

    for method in (taylor.hessian, taylor.gauss_newton):
        with pytest.raises(NotCapturable, match=r"derivative of \w*hardsigmoid.*lower order"):
            method(graph, examples, bent)
    assert taylor.gate_gradients(graph, examples, bent).shape == (4, len(graph.edges))


def test_parts_that_are_kept_from_training_have_derivatives_by_gates():
    class Stops(Linears):
        def __init__(self):
            super().__init__("a", "b")

        def forward(self, x):
            with torch.no_grad():
                y = self.a(x)
            return (y + self.b(x).detach()) * 2

    model, inputs = make(Stops), x(4, 6)
    graph = structural.capture(model, inputs)
    examples = Examples(inputs, torch.zeros(4))
    exact = leave_one_out(graph, examples, outputs_mean)
    slopes = taylor.mean_gradient(graph, examples, outputs_mean)[graph.candidates]
    assert -slopes == pytest.approx(exact, abs=1e-6) and abs(exact).min() > 0
    with pytest.raises(InvalidInput, match=r"differentiable operations.*leave_one_out"):
        taylor.gate_gradients(graph, examples, lambda o, t: o.detach().mean(1))


# B5, B8: tensors without values, and others that no gate can scale


def sparse():
    model = make(MultiBranch)
    model.a.weight = nn.Parameter(model.a.weight.detach().to_sparse())
    return model


class SparseOutput(MultiBranch):
    def forward(self, x):
        return super().forward(x).relu().to_sparse()


def quantised():
    class Static(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.ao.nn.quantized.Linear(6, 6)

        def forward(self, x):
            return self.fc(torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)).dequantize()

    return Static().eval()


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (lambda: MultiBranch().to("meta").eval(), x(4, 6), r"stem\.weight is on the meta device"),
        (lambda: make(MultiBranch), x(4, 6).to("meta"), "Input 0 is on the meta device"),
        (
            lambda: nn.Sequential(nn.LazyLinear(6), nn.ReLU()).eval(),
            x(4, 6),
            r"0\.weight has no shape yet; call the model once",
        ),
        (sparse, x(4, 6), r"a\.weight is sparse"),
        (lambda: make(MultiBranch), x(4, 6).to_sparse(), "Input 0 is sparse"),
        (
            lambda: make(MultiBranch),
            torch.nested.nested_tensor([x(2, 6), x(3, 6)], layout=torch.jagged),
            "Input 0 is nested",
        ),
        (lambda: make(SparseOutput), x(4, 6), "Output 0 is sparse"),
        (quantised, x(4, 6), r"fc \(Linear\) computes with quantised numbers"),
        (lambda: torch.jit.trace(make(MultiBranch), x(4, 6)), x(4, 6), "with its Python code"),
    ],
)
def test_tensors_that_cannot_be_followed_are_refused_by_name(model, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        structural.capture(model(), inputs)


def test_dynamic_quantisation_works():
    model = torch.ao.quantization.quantize_dynamic(make(MultiBranch), {nn.Linear})
    graph = structural.capture(model, x(4, 6))
    cut = remove(graph, graph.without([edge_of(graph, "tanh")]))
    with torch.no_grad():
        h = torch.relu(model.stem(x(4, 6)))
        assert alike(cut(x(4, 6)), model.head(model.a(h) - model.c(h)))


# A9's sibling: statistics by function


class NormalisesByFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        n = self.norm
        y = F.batch_norm(
            self.a(x), n.running_mean, n.running_var, n.weight, n.bias, self.training, 0.1
        )
        return F.rrelu(y, training=self.training) + self.b(x)


def test_batch_norm_by_function_follows_the_mode():
    model, inputs = make(NormalisesByFunction), x(32, 6)
    graph = structural.capture(model, inputs)
    assert graph.traced_by == "torch.fx" and graph.trains
    cut = remove(graph, graph.without([edge_of(graph, "b")]))
    for one in (cut, saved_and_loaded(cut)):
        truth = without(model, "b")
        for network in (one, truth):
            network.train()
        torch.manual_seed(0)
        ours = one(inputs)
        torch.manual_seed(0)
        theirs = truth(inputs)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(one.norm.running_mean, truth.norm.running_mean)
        assert not torch.equal(one.norm.running_mean, model.norm.running_mean)
        with torch.no_grad():
            assert alike(one.eval()(inputs), truth.eval()(inputs))
    graph.module.train()
    with pytest.raises(InvalidInput, match="draws at random in training mode"):
        leave_one_out(graph, Examples(inputs, torch.zeros(32)), outputs_mean)


# B4: several floating types


class MixedTypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.a, self.b, self.head = (nn.Linear(6, 6).bfloat16() for _ in range(3))
        self.place = nn.Linear(6, 6)

    def forward(self, ids):
        h = self.words(ids)
        y = self.a(h.bfloat16()) + self.b(h.bfloat16())  # bfloat16
        z = y + self.place(h)  # float32, because of the second
        return self.head(z.bfloat16()).float() + h


class DoubleInside(Linears):
    def __init__(self):
        super().__init__("a", "b", "head")

    def forward(self, x):
        y = self.a(x).double() + self.b(x)
        return self.head((y * y.sum(-1, keepdim=True)).float()) + x.half()


class HalfCat(Linears):
    def __init__(self):
        super().__init__("a", "b")
        self.head = nn.Linear(12, 6)

    def forward(self, x):
        y = torch.cat([self.a(x), self.b(x).half()], dim=-1)
        return self.head(y.float())


@pytest.mark.parametrize("network", [MixedTypes, DoubleInside, HalfCat])
def test_networks_of_several_types(network):
    torch.manual_seed(0)
    model = network().eval()
    inputs = torch.randint(11, (4, 5)) if network is MixedTypes else x(4, 6)
    graph = structural.capture(model, inputs)
    assert graph.batched
    examples = Examples(inputs, torch.zeros(4))
    changes = leave_one_out(graph, examples, outputs_mean)
    with torch.no_grad():
        full = model(inputs).float()
        for e, change in zip(graph.candidates, changes, strict=True):
            z = torch.ones(len(graph.edges))
            z[e] = 0
            gated, cut = graph.gated(z, None, inputs), remove(graph, graph.without([e]))(inputs)
            rows = graph.gated(z.expand(4, -1), None, inputs)
            assert gated.dtype == cut.dtype == rows.dtype == model(inputs).dtype
            torch.testing.assert_close(cut, gated, rtol=0.02, atol=0.02)
            torch.testing.assert_close(rows, gated, rtol=0.02, atol=0.02)
            truth = (gated.float() - full).mean().item()
            assert change == pytest.approx(truth, abs=0.02)
    gradients = taylor.gate_gradients(graph, examples, outputs_mean)
    assert (abs(gradients).max(axis=0)[graph.candidates] > 0).any()
    names = {v.index: v.name for v in graph.vertices}
    at = next(e for e in graph.candidates if "b" in names[graph.edges[e].source].split(" + "))
    with torch.no_grad():
        cut = remove(graph, graph.without([at]))(inputs)
        torch.testing.assert_close(cut, without(model, "b")(inputs), rtol=0.02, atol=0.02)


@fx.wrap
def halves(value, other):
    """Traced as a whole, as the shifted windows of torchvision are."""
    if value.shape[0] > 0:
        return value / 2 + other
    return value


def test_a_function_that_is_traced_as_a_whole_comes_back_from_a_file():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(halves(self.a(x) + x, x)) + x

    model, x = Whole().eval(), torch.randn(2, 4)
    graph = structural.capture(model, x)
    cut = structural.remove(graph, graph.without(graph.candidates[:1]))
    file = io.BytesIO()
    torch.save(cut, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), cut(x))
