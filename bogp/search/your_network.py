"""A network of your own under BoGP masks: laid over its layers, searched with your own score,
exported for use without bogp.

A mask becomes standard ``torch.nn.utils.prune`` state (``weight_orig``, ``weight_mask``, a forward
hook), so that everything that torch has for pruned layers works on it. Channels are split over the
nodes as in ``relational.expand`` (You et al. 2020, section 2.2); a convolution's kernels are kept
or removed whole. A search is any ``search.Searcher``: Bayesian optimisation, random search, or one
of your own.
"""

import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch.nn.utils import prune

from bogp import parallel
from bogp.checks import refuse, texts
from bogp.errors import InvalidInput
from bogp.graphs.database import MaskDatabase
from bogp.graphs.relational import Mask, as_masks, expand
from bogp.records import ScoreRecord, score_key, write_atomically
from bogp.search.loop import advance, fresh_means
from bogp.search.searchers import Searcher

MakeModel = Callable[[], nn.Module]
Score = Callable[[nn.Module, int], float]

_LARGEST = 1e100  # of scores
_LAZY = "is lazy, so that its size is not known yet"
_MEASURED = ["seconds", "masked_sparsity", "model_sparsity"]  # beside the score


def apply(model: nn.Module, mask: ArrayLike, layers: Iterable[str]) -> nn.Module:
    """Lay one relational graph over chosen layers of a network, in place.

    Both sides of a layer are split over the nodes in the order of their channels. Behind a
    flattening, a linear layer's inputs go channel by channel, so they meet the nodes of the
    convolution before it where the number of nodes divides its channels.

    Args:
        model: any module; it is changed only if all layers can be masked.
        mask: (n, n) symmetric, 0 and 1.
        layers: names of ``Linear`` and ``Conv2d`` layers, as in ``model.named_modules()``.

    Returns:
        The same module; ``torch.nn.utils.prune.remove(layer, "weight")`` makes a layer's mask
        permanent.

    Raises:
        InvalidInput: no mask, an unknown name or one given twice, a layer of another kind, a
            convolution with groups, fewer channels than nodes, or a weight that is already pruned,
            parametrised, or shared with another layer.
    """
    checked = as_masks(mask)
    refuse(
        len(checked) != 1,
        f"One (n, n) mask is laid over a network; this is a batch of {len(checked)}.",
    )
    masks = {
        layer: _weight_mask(name, layer, checked[0])
        for name, layer in _layers(model, _named(layers)).items()
    }
    for layer, weight_mask in masks.items():
        prune.custom_from_mask(layer, "weight", weight_mask)
        # a step of a computation, which deepcopy refuses; the next forward pass makes it anew
        layer.weight = layer.weight.detach()
    if not any(hook is _renew for hook in model._forward_pre_hooks.values()):
        model.register_forward_pre_hook(_renew, prepend=True)
    return model


def _renew(model: nn.Module, _: Any) -> None:
    """Multiply all masks in before the network runs.

    torch's pruning does so when a layer is called. A network that reads the weight instead, as in
    ``F.linear(x, self.fc.weight)``, would go on with that of the last call.
    """
    for layer in model.modules():
        for hook in _pruning(layer):
            hook(layer, ())


def _named(layers: Iterable[str]) -> list[str]:
    names = [str(name) for name in texts("layers", layers)]
    refuse(
        not names or len(set(names)) != len(names),
        f"layers is {names!r}; a list of one or more names of layers is needed, each once.",
    )
    return names


def _layers(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers of those names, each refused that cannot be masked whatever the mask."""
    modules = {plain: module for plain, _, module in _plain_names(model)}
    usable = ", ".join(n for n, m in modules.items() if _refusal(m) is None) or "none"
    for name in names:
        refuse(
            name not in modules,
            f"The network has no layer {name!r}; layers that can be masked: {usable}.",
        )
        if refusal := _refusal(modules[name]):
            raise InvalidInput(
                f"The layer {name!r} {refusal}. Layers that can be masked: {usable}."
            )
    chosen = {
        name: layer for name in names if isinstance(layer := modules[name], (nn.Linear, nn.Conv2d))
    }
    for name, layer in chosen.items():
        holders = [
            f"{owner}.{n}".lstrip(".")
            for owner, module in model.named_modules()  # one with two names holds it once
            for n, p in module.named_parameters(recurse=False)
            if p is layer.weight
        ]
        refuse(
            len(holders) > 1,
            f"The weight of {name!r} is shared ({', '.join(holders)}); a mask would reach "
            "one of them only. Leave it out.",
        )
    return chosen


def _refusal(layer: nn.Module) -> str | None:
    """Why a layer cannot be masked; None if it can."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    reasons = {  # the first that holds
        f"is a {type(layer).__name__}; only Linear and Conv2d layers are masked": not isinstance(
            layer, (nn.Linear, nn.Conv2d)
        ),
        "belongs to an attention module, which uses its weight without calling it, so that "
        "torch's pruning would not reach it": isinstance(layer, NonDynamicallyQuantizableLinear),
        f"is a convolution with {groups} groups; its weight has no entry for each pair of "
        "channels": groups > 1,
        "is already pruned; begin with a new model, or make its mask permanent with "
        "torch.nn.utils.prune.remove": "weight" in [h._tensor_name for h in _pruning(layer)],
        "has no plain weight, for it is parametrised; remove that first": (
            "weight" not in dict(layer.named_parameters(recurse=False))
        ),
        f"{_LAZY}; run the network once first": isinstance(
            getattr(layer, "weight", None), UninitializedParameter
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _weight_mask(name: str, layer: nn.Linear | nn.Conv2d, mask: Mask) -> torch.Tensor:
    """The mask of a layer's weight, (d_out, d_in) or (d_out, d_in, height, width)."""
    weight = layer.weight
    d_out, d_in = weight.shape[:2]
    refuse(
        min(d_out, d_in) < len(mask),
        f"The layer {name!r} has {d_in} inputs and {d_out} outputs, and the graph "
        f"{len(mask)} nodes: each node needs a channel on both sides. "
        "Leave the layer out, or take masks with fewer nodes.",
    )
    pairs = torch.from_numpy(expand(mask, d_in, d_out)).to(weight.device)
    return pairs.reshape(d_out, d_in, *(1 for _ in weight.shape[2:])).expand_as(weight)


@dataclass(frozen=True)
class Sparsity:
    """Shares of weights that masks remove; biases and other vectors are not counted, and what
    training made zero is not either.

    Attributes:
        layers: of each pruned layer, by name; of a layer with several weights, as an LSTM is, of
            each pruned weight (``rnn.weight_hh_l0``).
        masked: of all pruned layers together.
        model: of all weights of the network, those of unpruned layers included.
    """

    layers: dict[str, float]
    masked: float
    model: float


def sparsity(model: nn.Module) -> Sparsity:
    """What the pruning state of a network removes, whoever put it there (this module, or any
    function of ``torch.nn.utils.prune``).

    Raises:
        InvalidInput: the network has no weights, or some whose size is not known yet.
    """
    for name, parameter in model.named_parameters():
        refuse(is_lazy(parameter), f"The parameter {name!r} {_LAZY}; run the network once first.")
    weights = sum(p.numel() for p in model.parameters() if p.dim() >= 2)
    refuse(
        weights == 0,
        "The network has no weights (parameters of two or more dimensions), so it has no sparsity.",
    )
    masks = {
        prefix if tensor == "weight" else f"{prefix}.{tensor}".lstrip("."): mask
        for prefix, _, module in _plain_names(model, remove_duplicate=True)
        for tensor in [hook._tensor_name for hook in _pruning(module)]
        if (mask := module.get_buffer(f"{tensor}_mask")).dim() >= 2
    }
    sizes = {name: mask.numel() for name, mask in masks.items()}
    removed = {name: int((mask == 0).sum()) for name, mask in masks.items()}
    total = sum(removed.values())
    return Sparsity(
        {name: removed[name] / sizes[name] for name in masks},
        total / max(sum(sizes.values()), 1),
        total / weights,
    )


def _pruning(module: nn.Module) -> list[Any]:
    """Torch's hooks that prune tensors of one module, each of the tensor ``_tensor_name``."""
    hooks = module._forward_pre_hooks.values()
    return [hook for hook in hooks if isinstance(hook, prune.BasePruningMethod)]


def plain_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of the network without its pruning state: pruned weights are multiplied in,
    under the names of the plain module.

    Args:
        model: pruned or not; it is left as it is.

    Returns:
        Copies on the CPU, for ``load_state_dict`` of a plain module. A mask is where a weight is
        not zero.

    Raises:
        InvalidInput: the state holds something that is not a tensor, or a tensor without values.
    """
    plain: dict[str, torch.Tensor] = {}
    for name, (value, mask) in _plain_values(model).items():
        refuse(
            not isinstance(value, torch.Tensor),
            f"The state of the network holds {name!r}, a {type(value).__name__}; only "
            "tensors can be exported.",
        )
        refuse(
            is_lazy(value) or value.is_meta,
            f"{name!r} has no values yet: it is lazy, or on the device 'meta'. Run a lazy network "
            "once, or give one on 'meta' its place with to_empty, and load its weights.",
        )
        value = (value if mask is None else value * mask).detach().cpu().clone()
        plain[name] = value.contiguous() if value.layout == torch.strided else value
    return plain


def _plain_values(model: nn.Module) -> dict[str, tuple[Any, torch.Tensor | None]]:
    """The state under the names of the plain network: each value, and the mask of a pruned one."""
    plain: dict[str, tuple[Any, torch.Tensor | None]] = {}
    state = {name: (value, None) for name, value in model.state_dict().items()}
    for ours, theirs, module in _plain_names(model):
        begin, short = f"{theirs}.".lstrip("."), f"{ours}.".lstrip(".")
        for name in [f"{begin}{hook._tensor_name}" for hook in _pruning(module)]:
            state[name] = (state.pop(f"{name}_orig")[0], state.pop(f"{name}_mask")[0])
        plain |= {
            f"{short}{name[len(begin) :]}": value
            for name, value in state.items()
            if name.startswith(begin) and "." not in name[len(begin) :]
        }
    return plain


def _plain_names(
    model: nn.Module, remove_duplicate: bool = False
) -> Iterator[tuple[str, str, nn.Module]]:
    """Each module with its name in the plain network and its name here.

    ``DataParallel`` and ``torch.compile`` wrap a network, or a part of it, into a module of their
    own, whose name would stand in every key of a file.
    """
    wrappers: dict[type[nn.Module], str] = {
        nn.DataParallel: "module",
        nn.parallel.DistributedDataParallel: "module",
        torch._dynamo.OptimizedModule: "_orig_mod",
    }
    wrapped = {"": ""}  # from the name of a module here to its plain name
    for name, module in model.named_modules(remove_duplicate=remove_duplicate):
        owner, _, last = name.rpartition(".")
        if name:
            parent, plain = model.get_submodule(owner), wrapped.get(owner, owner)
            inside = any(isinstance(parent, kind) and wrappers[kind] == last for kind in wrappers)
            wrapped[name] = plain if inside else f"{plain}.{last}".lstrip(".")
        if not any(isinstance(module, kind) for kind in wrappers):
            yield wrapped[name], name, module


def save(model: nn.Module, path: Path | str) -> Path:
    """Write the network's plain state dict, to be loaded into the plain module without bogp.

    Args:
        model: pruned or not; it is left as it is.
        path: ends in ``.pt`` (for ``torch.load(path, weights_only=True)``) or ``.safetensors`` (for
            ``safetensors.torch.load_file``).

    Returns:
        The path.

    Raises:
        InvalidInput: another suffix, or a state that holds more than tensors.
        BogpError: it cannot be written; an earlier file stays as it was.
    """
    from safetensors.torch import save as as_safetensors

    path = Path(path).expanduser()
    refuse(
        path.suffix not in (".pt", ".safetensors"),
        f"{path.name} ends in {path.suffix or 'no suffix'!r}; .pt and .safetensors can be written.",
    )
    state, buffer = plain_state(model), io.BytesIO()
    if path.suffix == ".pt":
        torch.save(state, buffer)
    write_atomically(
        {
            path: buffer.getvalue()
            if path.suffix == ".pt"
            else as_safetensors(state, metadata={"format": "pt"})
        }
    )
    return path


def search(
    make_model: MakeModel,
    score: Score,
    database: MaskDatabase,
    searchers: Sequence[Searcher],
    layers: Iterable[str],
    *,
    record: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Search a database for the mask under which your network scores best, one network at a time.

    Each network is made and scored with torch's generators seeded by the training's seed, as in
    ``search.run``: search seed k, and for a mask that the same search proposes again 10,000 + k,
    and so on. So the methods of one k are compared from the same initial weights.

    Args:
        make_model: gives a new, unpruned network at each call.
        score: ``score(model, seed)`` trains the masked network as you like and returns what to
            maximise. ``seed`` is for your own generators.
        database: the masks that proposals refer to.
        searchers: over that database; each pair of name and seed once.
        layers: to lay the masks over, see ``apply``.
        record: a ``.json`` file that keeps each score as it is made, so that the same call goes on
            after an interruption, or does nothing twice. One process at a time writes to it.
        settings: what scores depend on besides mask, seed, layers, shapes, torch's version and the
            names of the two functions: data, epochs and the like, as JSON can hold it. Scores
            recorded under other settings do not count. That the code of a function changed cannot
            be seen: begin a new record then.

    Returns:
        The history, with the columns of ``search.run`` as far as they make sense here: ``method``,
        ``search_seed``, ``evaluation``, ``phase``, ``mask_id``, ``visit``, ``training_seed``,
        ``similarity``, ``sparsity`` (of the mask), ``objective`` (your score), ``seconds``,
        ``masked_sparsity`` and ``model_sparsity`` (of the network), and ``query_...``.
        ``search.recommend`` takes the best evaluation of each search.

    Raises:
        InvalidInput: no searchers, or two of one name and seed; layers that cannot be masked; a row
            that the database does not have; a score that is no finite number; functions without
            names, or settings that JSON cannot hold, with a record.
        BogpError: the record is damaged or cannot be written.
    """
    with parallel.progress_bar(0, "network", label="search") as bar:
        scores = _Scores(make_model, score, database, layers, record, settings, bar)
        return advance(
            searchers,
            database,
            scores.measure,
            lambda rows: rows["objective"].to_numpy(dtype=np.float64),
            _MEASURED,
        )


def retrain(
    chosen: pd.DataFrame,
    make_model: MakeModel,
    score: Score,
    database: MaskDatabase,
    layers: Iterable[str],
    seeds: int,
    *,
    record: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Score chosen masks again with fresh seeds, best on data that played no part in the choice.

    Args:
        chosen: from ``search.recommend``.
        make_model, database, layers, record, settings: as in ``search``.
        score: as there; it may be another function, such as one that measures on held-out data.
        seeds: how many for each search; search k has 5,000 + k * seeds and the following, the same
            for each method.

    Returns:
        ``chosen`` with ``apparent`` (the score that it was chosen by), ``fresh`` (mean over the
        fresh seeds) and ``fresh_seeds``, their number.

    Raises:
        InvalidInput, BogpError: as ``search``; or a number of seeds out of range.
    """
    with parallel.progress_bar(0, "network", label="fresh seeds") as bar:
        scores = _Scores(make_model, score, database, layers, record, settings, bar)
        means = fresh_means(chosen, database, scores.measure, seeds, ["objective"])
    return chosen.assign(apparent=chosen["objective"], fresh=means[:, 0], fresh_seeds=seeds)


class _Scores:
    """The score of each (row of the database, seed), made once.

    All that can be refused is refused when it is set up, before any training.
    """

    def __init__(
        self,
        make_model: MakeModel,
        score: Score,
        database: MaskDatabase,
        layers: Iterable[str],
        record: Path | str | None,
        settings: Mapping[str, Any] | None,
        bar: Any,
    ) -> None:
        refuse(
            len(database) == 0,
            "The database is empty: there is no mask to score.",
        )
        self._make_model, self._score, self._bar = make_model, score, bar
        self._database, self._layers = database, _named(layers)
        with torch.random.fork_rng():
            network = self._network(0, 0)
        sparsity(network)  # refused before any training where it has none
        values = _plain_values(network)
        self._common = {
            "torch": torch.__version__,
            "layers": self._layers,
            "shapes": {
                name: list(value.shape)
                for name, (value, _) in values.items()
                if isinstance(value, torch.Tensor)
            },
            "settings": dict(settings or {}),
            "make_model": _name(make_model, record),
            "score": _name(score, record),
        }
        self._record = ScoreRecord(record)

    def measure(self, asked: Sequence[tuple[int, int]]) -> pd.DataFrame:
        """``objective`` and what else is measured, a row for each (row of the database, seed)."""
        self._bar.total += len(asked)  # how many there will be in the end, only searchers know
        rows = []
        for row, seed in asked:
            rows.append(self._of(row, seed))
            self._bar.update(1)
        return pd.DataFrame(rows)

    def _of(self, row: int, seed: int) -> dict[str, float]:
        mask = self._database.bits[row].tobytes().hex()
        key = score_key(
            self._common | {"nodes": self._database.spec.n, "mask": mask, "seed": int(seed)}
        )
        scored = self._record.get(key)
        if scored is None:
            scored = self._train(row, seed)
            self._record.add(key, scored)
        return scored

    def _train(self, row: int, seed: int) -> dict[str, float]:
        with torch.random.fork_rng():  # the caller's generators stay as they were
            model = self._network(row, seed)
            removed = sparsity(model)
            started = time.perf_counter()
            value = self._score(model, seed)
            seconds = time.perf_counter() - started
        try:
            objective = float(value)
        except (TypeError, ValueError, OverflowError):
            objective = math.nan
        refuse(
            not abs(objective) <= _LARGEST,
            f"score(model, {seed}) gave {_short(value)} for mask "
            f"{self._database.table['mask_id'].iloc[row]}; a finite number is needed, of at most "
            f"{_LARGEST:g} in size, so that searches can square it. "
            "Return your lowest score where a training fails. "
            "Scores before this one are kept if there is a record.",
        )
        return {
            "objective": objective,
            "seconds": seconds,
            "masked_sparsity": removed.masked,
            "model_sparsity": removed.model,
        }

    def _network(self, row: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return apply(self._make_model(), self._database.mask(row), self._layers)


def _short(value: Any) -> str:
    try:
        return repr(value)[:100]
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"


def _name(function: Callable[..., Any], record: Path | str | None) -> str:
    """The name by which a record knows a function."""
    name = getattr(function, "__qualname__", "")
    refuse(
        record is not None and (not name or name.endswith("<lambda>")),
        "A record knows make_model and score by their names; give it functions made with def.",
    )
    return name
