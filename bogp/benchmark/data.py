"""The file of the benchmark: read, checked, and asked.

It is one Parquet table, a row a mask, with a JSON record beside it that holds the file's checksum
and how it was made. Graphs are symmetric; a row holds the bits of their upper triangles, diagonal
included; the second is left out where it is the first again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.benchmark.pool import Pool
from bogp.checks import choice, number, refuse, texts, whole
from bogp.errors import DatasetError
from bogp.graphs.relational import LayerMasks, Mask, expand

FILE = Path(__file__).parent / "masks-1.parquet"
NODES = 128
WIDTHS = (784, 128, 128, 10)  # of the network that the masks lie on; its last layer stays dense
DATASETS = ("mnist", "fashion-mnist")
SPLITS = ("train", "validation", "test")
SEEDS = 3
TEST_EVERY = 4  # of each family, every fourth pair of masks is of a regression's test part

# What the paper's search reads: the nine properties of the graph over the first layer.
NINE_COLUMNS = (
    "first_degree_centrality",
    "first_degree_connectivity",
    "first_eigenvector_centrality",
    "first_clustering",
    "first_path_length",
    "first_s_metric",
    "first_wiener_index",
    "first_edge_connectivity",
    "first_cycle_length",
)

_UPPER = np.triu_indices(NODES)
_LABELS = ("id", "sparsity", "family", "number", "settings", "first", "hidden")


@dataclass(frozen=True, eq=False)
class Regression:
    """Masks as a task of regression, in the form that scikit-learn takes.

    Attributes:
        X: (N, d) float64, one row a mask; NaN where a property does not exist: path length and
            Wiener index of a graph in several parts. ``benchmark.filled`` fills them in.
        y: (N,) mean test accuracy over the seeds.
        groups: (N,) family of each mask, for ``LeaveOneGroupOut``.
        columns: (d,) names.
        ids: (N,) of the masks.
        train, test: row numbers of the fixed split, three quarters and one quarter of each family,
            in which placed masks of both data sets' salience have their share.
    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    groups: NDArray[np.str_]
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    train: NDArray[np.intp]
    test: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The masks and what was measured of them; from ``load``.

    Attributes:
        table: one row a mask: ``id``, ``sparsity`` (asked for), ``family``, ``number``,
            ``settings`` (of the generator, JSON), bits of the two graphs, then the numbers of
            ``columns``.
        accuracies: (N, data sets, seeds, splits) float32, in the order of ``DATASETS``, the seeds
            0, 1, 2, and ``SPLITS``.
        record: how the file was made.
    """

    table: pd.DataFrame
    accuracies: NDArray[np.float32]
    record: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.table["id"])}

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Of all masks, in their order."""
        return tuple(self._row)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of all numbers that describe a mask: ``first_...`` and ``hidden_...`` are graph
        properties and bipartite invariants of its two graphs, ``weights`` is how many it leaves,
        ``pixels_...`` says what the first layer reads.
        """
        return tuple(name for name in self.table if name not in _LABELS)

    @property
    def sparsities(self) -> tuple[float, ...]:
        """At which there are masks, in ascending order."""
        return tuple(sorted(self.table["sparsity"].unique().tolist()))

    def accuracy(
        self, mask: str, dataset: str, seed: int | None = None, split: str = "test"
    ) -> Any:
        """Accuracy of the network trained under a mask.

        Args:
            mask: an id.
            dataset: of ``DATASETS``.
            seed: 0, 1 or 2; None is all three.
            split: of ``SPLITS``.

        Returns:
            A number in [0, 1], or a list of three.

        Raises:
            InvalidInput: one of those does not exist.
        """
        found = self.accuracies[
            self._row_of(mask), _dataset(dataset), :, SPLITS.index(choice("split", split, SPLITS))
        ]
        exact = [round(float(one), 6) for one in found]  # as it was before single precision
        return exact if seed is None else exact[_seed(seed)]

    def describe(self, mask: str) -> dict[str, Any]:
        """A mask's labels, generator settings and numbers, by name.

        Raises:
            InvalidInput: there is no mask of that id.
        """
        row = self.table.iloc[self._row_of(mask)].drop(["first", "hidden"]).to_dict()
        return row | {"settings": json.loads(row["settings"])}

    def graphs(self, mask: str) -> tuple[Mask, Mask]:
        """The two (128, 128) graphs of a mask: over the layer that reads the data, and over the
        layer behind it. A mask of a relational family has the same one twice.

        Raises:
            InvalidInput: there is no mask of that id.
        """
        row = self._row_of(mask)
        first, hidden = self.table["first"].iat[row], self.table["hidden"].iat[row]
        return unpacked(first), unpacked(hidden or first)

    def layer_masks(self, mask: str) -> LayerMasks:
        """The masks of the network's layers, (d_out, d_in) each; None for the last, which stays
        dense.

        Raises:
            InvalidInput: there is no mask of that id.
        """
        first, hidden = self.graphs(mask)
        return expand(first, *WIDTHS[:2]), expand(hidden, *WIDTHS[1:3]), None

    def pool(
        self,
        sparsity: float,
        dataset: str,
        seed: int = 0,
        columns: Sequence[str] | None = None,
    ) -> Pool:
        """The masks of one sparsity, to be searched with what one training of each tells.

        Args:
            sparsity: of ``sparsities``.
            dataset: of ``DATASETS``.
            seed: a search observes the validation accuracy of this training; what it finds is
                judged by the mean test accuracy of the other two, which it never sees.
            columns: that a search may read; None is all.

        Raises:
            InvalidInput: one of those does not exist.
        """
        rows, known = self._at(sparsity), self._columns(columns)
        at, own = self.accuracies[rows, _dataset(dataset)], _seed(seed)
        others = [other for other in range(SEEDS) if other != own]
        return Pool(
            ids=tuple(self.table["id"].iloc[rows]),
            columns=known,
            values=self._values(rows, known),
            observed=at[:, own, SPLITS.index("validation")].astype(np.float64),
            judged=at[:, others, SPLITS.index("test")].mean(axis=1, dtype=np.float64),
        )

    def regression(
        self,
        sparsity: float | None,
        dataset: str,
        columns: Sequence[str] | None = None,
    ) -> Regression:
        """The masks of one sparsity, or of all, as a task of regression with a fixed split.

        Args:
            sparsity: of ``sparsities``; None is all together.
            dataset: of ``DATASETS``.
            columns: that a model may read; None is all.

        Raises:
            InvalidInput: one of those does not exist.

        Example:
            >>> from bogp import benchmark
            >>> data = benchmark.load().regression(0.97, "mnist")
            >>> data.X.shape[0], len(data.train), len(data.test)
            (800, 600, 200)
        """
        rows = np.arange(len(self)) if sparsity is None else self._at(sparsity)
        known, part = self._columns(columns), self.table.iloc[rows]
        # by pairs: even numbers of a placed family have the salience of one data set, odd ones of
        # the other
        turn = part["number"].to_numpy() // 2 % TEST_EVERY
        test = self.accuracies[rows, _dataset(dataset), :, SPLITS.index("test")]
        return Regression(
            X=self._values(rows, known),
            y=test.mean(axis=1, dtype=np.float64),
            groups=part["family"].to_numpy(str),
            columns=known,
            ids=tuple(part["id"]),
            train=np.flatnonzero(turn != TEST_EVERY - 1),
            test=np.flatnonzero(turn == TEST_EVERY - 1),
        )

    def _row_of(self, mask: str) -> int:
        row = self._row.get(mask) if isinstance(mask, str) else None
        refuse(
            row is None,
            f"There is no mask {mask!r}; an id is such as {self.table['id'].iat[0]!r}, and all "
            "are in `ids`.",
        )
        return int(row or 0)

    def _at(self, sparsity: float) -> NDArray[np.intp]:
        near = np.isclose(self.table["sparsity"], number("sparsity", sparsity), rtol=0, atol=1e-6)
        refuse(
            not near.any(),
            f"There are no masks of sparsity {sparsity!r}; allowed: "
            f"{', '.join(f'{s:g}' for s in self.sparsities)}.",
        )
        return np.flatnonzero(near)

    def _values(self, rows: NDArray[np.intp], columns: Sequence[str]) -> NDArray[np.float64]:
        """(N, d) numbers of some masks; masks without edges but loops have no image distance, which
        counts as 0.
        """
        found = self.table[list(columns)].iloc[rows]
        return found.fillna({"pixels_image_distance": 0.0}).to_numpy(np.float64)

    def _columns(self, columns: Sequence[str] | None) -> tuple[str, ...]:
        wanted = self.columns if columns is None else texts("columns", columns)
        unknown = [name for name in wanted if name not in self.columns]
        refuse(
            unknown or not wanted or len(set(wanted)) < len(wanted),
            f"columns is {columns!r}; name some of these, each once: {', '.join(self.columns)}.",
        )
        return tuple(wanted)


def load(file: Path | str = FILE) -> Benchmark:
    """Read the benchmark, the file's checksum verified.

    Args:
        file: the Parquet file, with its JSON record beside it.

    Raises:
        DatasetError: the file or its record is missing, or the file is not the one that the record
            describes.
    """
    import pyarrow.parquet as pq

    path = Path(file)
    try:
        content = path.read_bytes()
        record = json.loads(path.with_suffix(".json").read_text())
        known = record["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"The benchmark {path} cannot be read ({error}). Install the package again, or name "
            "a file that has its .json beside it."
        ) from None
    found = hashlib.sha256(content).hexdigest()
    refuse(
        found != known,
        f"The benchmark {path} is damaged or another: its checksum is {found[:12]}..., its record "
        f"says {str(known)[:12]}.... Install the package again.",
        DatasetError,
    )
    table = pq.read_table(io.BytesIO(content)).to_pandas()
    names = accuracy_columns()
    accuracies = table[names].to_numpy(np.float32)
    shape = (len(table), len(DATASETS), SEEDS, len(SPLITS))
    return Benchmark(table.drop(columns=names), accuracies.reshape(shape), record)


def accuracy_columns() -> list[str]:
    """Names of the file's columns of accuracies, in the order of ``Benchmark.accuracies``."""
    return [
        f"{dataset}_{seed}_{split}"
        for dataset in DATASETS
        for seed in range(SEEDS)
        for split in SPLITS
    ]


def packed(graph: Mask) -> bytes:
    """The upper triangle of a symmetric (128, 128) graph, a bit an entry."""
    return np.packbits(graph[_UPPER]).tobytes()


def unpacked(content: bytes) -> Mask:
    """The graph of ``packed``."""
    upper = np.unpackbits(np.frombuffer(content, np.uint8), count=len(_UPPER[0])).astype(bool)
    graph = np.zeros((NODES, NODES), dtype=bool)
    graph[_UPPER] = upper
    return graph | graph.T


def _dataset(name: str) -> int:
    return DATASETS.index(choice("data set", name, DATASETS))


def _seed(seed: int) -> int:
    return whole("seed", seed, 0, SEEDS - 1)
