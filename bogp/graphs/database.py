"""Mask databases: Algorithm 1 builds one, Algorithm 2 fetches the nearest mask from it (paper
sections 5.1 and 5.2).

On disk a database is a folder of Parquet shards and a manifest. A mask is a pure function of (spec,
sparsity, its number), a shard of (spec, shard number), so that a build which was interrupted
resumes at the first missing shard and ends in the same bytes. The manifest is written last; it
holds the checksum of each shard, the constants of each scaling, and a checksum of itself.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from bogp import parallel, paths
from bogp.checks import choice, floats, listed, refuse, texts, whole
from bogp.errors import BogpError, DatabaseError, InvalidInput
from bogp.graphs import families as mask_families
from bogp.graphs import properties
from bogp.graphs.relational import Mask, mask_sparsity
from bogp.parallel import worker_options
from bogp.records import write_atomically

SCHEMA_VERSION = 2
MOST_MASKS = 10_000_000  # of one sparsity: more is a slip of the hand
METRICS = ("cosine", "l1", "l2")
SCALINGS = ("minmax", "zscore", "none")
# similarities closer than this differ by rounding only, which must not decide between identical
# rows
_TIE = 1e-14


@dataclass(frozen=True)
class DatabaseSpec:
    """What a database holds.

    Attributes:
        sparsities: target sparsities, each in (0, 1) and reachable by the family; empty where a
            range is given.
        masks_per_sparsity: number of masks for each; with a range, of all.
        n: nodes of each relational graph.
        family: name of a function in ``bogp.graphs.families``, or of your own.
        parameters: keyword arguments of the family, as (name, value) pairs.
        seed: of the whole database.
        shard_size: masks a shard.
        sparsity_range: instead of ``sparsities``: lowest and highest, each mask's target is drawn
            uniformly between them.
    """

    sparsities: tuple[float, ...] = ()
    masks_per_sparsity: int = 1000
    n: int = 128
    family: str = "bernoulli"
    parameters: tuple[tuple[str, Any], ...] = ()
    seed: int = 0
    shard_size: int = 125
    sparsity_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("sparsities", "sparsity_range"):
            if name == "sparsities" or self.sparsity_range is not None:
                values = listed(name, getattr(self, name))
                for sparsity in values:
                    mask_families.check_size(self.n, sparsity)
                object.__setattr__(self, name, tuple(float(s) for s in values))
        try:  # what a spec holds is what its JSON holds
            parameters = tuple((str(k), json.loads(json.dumps(v))) for k, v in self.parameters)
        except (TypeError, ValueError):
            raise InvalidInput(
                f"parameters is {self.parameters!r}; (name, value) pairs of numbers, texts or "
                "lists are needed."
            ) from None
        object.__setattr__(self, "parameters", parameters)
        refuse(
            self.sparsity_range is not None and len(self.sparsities),
            f"sparsities is {self.sparsities} and sparsity_range {self.sparsity_range}; "
            "give one of them.",
        )
        refuse(
            self.sparsity_range is None
            and (not self.sparsities or len(set(self.sparsities)) != len(self.sparsities)),
            f"sparsities is {self.sparsities}; at least one is needed, and each only once.",
        )
        ends = self.sparsity_range or (0.0, 1.0)
        refuse(
            len(ends) != 2 or not ends[0] < ends[1],
            f"sparsity_range is {self.sparsity_range}; "
            "the lowest and the highest sparsity are needed, in this order.",
        )
        whole("masks_per_sparsity", self.masks_per_sparsity, 1, MOST_MASKS)
        whole("shard_size", self.shard_size, 1)
        whole("seed", self.seed, 0, 2**63 - 1)  # a column of 64 bits
        texts("family", [self.family])

    @property
    def shards(self) -> list[tuple[float | None, range]]:
        """Sparsity (None: each mask has its own, drawn from the range) and mask numbers of each
        shard.
        """
        return [
            (sparsity, range(first, min(first + self.shard_size, self.masks_per_sparsity)))
            for sparsity in self.sparsities or (None,)
            for first in range(0, self.masks_per_sparsity, self.shard_size)
        ]

    @property
    def extremes(self) -> tuple[float, ...]:
        """Sparsities that the family must reach: each of them, or the ends of the range."""
        return self.sparsities if self.sparsity_range is None else self.sparsity_range

    @property
    def description(self) -> str:
        """The sparsities in words, for messages."""
        return ", ".join(
            f"{s:g}" for s in self.sparsities
        ) or "any sparsity between {:g} and {:g}".format(*self.extremes)

    def drawn_target(self, number: int) -> float:
        """Target sparsity of the mask of that number, where the spec has a range: it depends on
        nothing but the seed and the number.
        """
        return float(_generator(self, number).uniform(min(self.extremes), max(self.extremes)))


_SIX = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)

NAMED = {
    "smoke": DatabaseSpec(_SIX, 50),
    "paper": DatabaseSpec(_SIX, 1000),
    # Algorithm 4 chooses the sparsity too, so each mask has one of its own.
    "smoke-spread": DatabaseSpec((), 60, sparsity_range=(0.1, 0.99)),
    "paper-spread": DatabaseSpec((), 1000, sparsity_range=(0.1, 0.99)),
}


def named(name: str) -> DatabaseSpec:
    """The spec of that name: ``smoke`` and ``paper`` hold six sparsities, ``...-spread`` a range.

    Raises:
        InvalidInput: there is none.
    """
    return NAMED[choice("database", name, NAMED)]


@dataclass(frozen=True)
class Scaling:
    """Affine scaling of property columns, fitted on a database: ``(value - offset) / scale``.

    Columns that are constant or never finite are left out of ``columns``: they cannot tell masks
        apart.
    """

    name: str
    columns: tuple[str, ...]
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]

    def transform(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, d) property values to scaled ones."""
        return (values - self.offset) / self.scale

    def inverse(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, d) scaled values back to property values."""
        return scaled * self.scale + self.offset


@dataclass(frozen=True)
class Nearest:
    """Answer of Algorithm 2 for Q queries.

    Attributes:
        row: (Q,) positions of the nearest rows in the table that was searched.
        similarity: (Q,) cosine in [-1, 1], or minus the L1 or L2 distance, in scaled units.
        left_out: number of rows that took no part because a used property is NaN.
    """

    row: NDArray[np.intp]
    similarity: NDArray[np.float64]
    left_out: int


@dataclass(frozen=True)
class MaskDatabase:
    """An opened database, or a part of one: a table of masks with their properties, and the masks
    as packed bits.
    """

    table: pd.DataFrame
    spec: DatabaseSpec
    bits: NDArray[np.uint8] = field(repr=False)

    def __len__(self) -> int:
        return len(self.table)

    def mask(self, row: int) -> Mask:
        """The (n, n) mask in that row."""
        n = self.spec.n
        return np.unpackbits(self.bits[row], count=n * n).astype(bool).reshape(n, n)

    def masks(self) -> Mask:
        """All masks, (N, n, n)."""
        n = self.spec.n
        return np.unpackbits(self.bits, axis=1, count=n * n).astype(bool).reshape(-1, n, n)

    def at(self, sparsity: float) -> "MaskDatabase":
        """The masks of one target sparsity (Psi_s of the paper).

        Raises:
            DatabaseError: the database holds none, or its masks have sparsities drawn from a range.
        """
        mask_families.check_size(self.spec.n, sparsity)
        chosen = np.isclose(self.table["target_sparsity"], sparsity, rtol=0, atol=1e-9)
        refuse(
            not chosen.any() or self.spec.sparsity_range,
            f"The database holds no masks of sparsity {sparsity:g}; it holds "
            f"{self.spec.description}. Build one with that sparsity.",
            DatabaseError,
        )
        return self.take(np.flatnonzero(chosen))

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "MaskDatabase":
        """The masks in those rows, in their order, numbered anew."""
        chosen = np.asarray(rows, dtype=np.intp)
        return MaskDatabase(
            self.table.iloc[chosen].reset_index(drop=True), self.spec, self.bits[chosen]
        )

    def with_property(self, name: str, function: Callable[[Mask], float]) -> "MaskDatabase":
        """The same masks with a property of your own as a further column, in memory; it can be
        searched like any other.

        Args:
            name: of the column, new to the table.
            function: from an (n, n) boolean mask to a number; NaN where it is not defined, and such
                masks are left out of ``nearest``.

        Raises:
            InvalidInput: the table has that column, or the function gives something else for a
                mask, which is named.
        """
        refuse(
            not name or name in self.table.columns,
            f"A new property cannot be named {name!r}; names that are taken: "
            f"{', '.join(self.table.columns)}.",
        )
        values = np.empty(len(self))
        for row, mask in enumerate(self.masks()):
            value = function(mask)
            try:
                values[row] = float(value)
            except (TypeError, ValueError):
                values[row] = np.inf
            if np.isinf(values[row]):
                raise InvalidInput(
                    f"The property {name!r} gives {value!r} for mask "
                    f"{self.table['mask_id'].iloc[row]}; return a number, or NaN where it "
                    "is not defined."
                )
        return MaskDatabase(self.table.assign(**{name: values}), self.spec, self.bits)

    def with_columns(self, columns: pd.DataFrame) -> "MaskDatabase":
        """The same masks with measured columns added to the table, one row a mask, in order."""
        columns = columns.set_index(self.table.index)
        return MaskDatabase(self.table.assign(**columns), self.spec, self.bits)

    def row_of(self) -> dict[str, int]:
        """The row of each mask, by its id."""
        return {mask_id: row for row, mask_id in enumerate(self.table["mask_id"])}

    def values(self, columns: Sequence[str]) -> NDArray[np.float64]:
        """(N, d) property values."""
        return self.table[list(columns)].to_numpy(dtype=np.float64)


def build(
    spec: DatabaseSpec,
    folder: Path,
    *,
    workers: int = -1,
    sampler: mask_families.Family | None = None,
) -> MaskDatabase:
    """Algorithm 1: draw the masks, measure their properties, write them; resumes where an earlier
    build stopped.

    Args:
        spec: what to build.
        folder: where; made if it does not exist.
        workers: processes, -1 for one a core.
        sampler: a mask family of your own, for which ``spec.family`` is then only the name.

    Returns:
        The opened database.

    Raises:
        UnreachableSparsity: the family cannot reach one of the sparsities (before anything is
            written).
        InvalidInput: the family does not know one of the parameters.
        DatabaseError: the folder holds another database, or cannot be written.
    """
    refuse(
        sampler and spec.family in mask_families.FAMILIES,
        f"The spec's family is {spec.family!r}, a built-in one; give masks of your own "
        "sampler a family name of their own.",
    )
    refuse(
        whole("workers", workers, -1) == 0,
        "workers is 0; at least one is needed, and -1 is one for each core.",
    )
    draw = sampler or mask_families.family(spec.family)
    try:
        for sparsity in spec.extremes:  # refuse what cannot be drawn before work starts
            _draw(spec, draw, sparsity, 0)
    except TypeError as error:
        raise InvalidInput(
            f"The family {spec.family!r} cannot be drawn with parameters "
            f"{dict(spec.parameters)} ({error})."
        ) from None
    try:
        return _build(spec, folder, workers, draw)
    except BogpError as error:  # of writing a file, or what already is a DatabaseError
        raise DatabaseError(str(error)) from None


def _build(
    spec: DatabaseSpec, folder: Path, workers: int, draw: mask_families.Family
) -> MaskDatabase:
    from joblib import Parallel, delayed

    _claim(spec, folder)
    missing = [
        i
        for i in range(len(spec.shards))
        if not _readable(folder / _shard_name(i), len(spec.shards[i][1]))
    ]
    if missing or not _is_sound(_read_manifest(folder)):
        sizes = [len(numbers) for _, numbers in spec.shards]
        todo = sum(sizes[i] for i in missing)
        with parallel.progress_bar(
            sum(sizes), "mask", done=sum(sizes) - todo, label=folder.name, show=todo > 0
        ) as bar:
            for i in Parallel(n_jobs=workers, return_as="generator_unordered", **worker_options())(
                delayed(_write_shard)(spec, draw, folder, i) for i in missing
            ):
                bar.update(sizes[i])
        _write_manifest(spec, folder)
    return open_database(folder)


def open_database(folder: Path) -> MaskDatabase:
    """Open a database, checking its manifest, the checksum of each shard and their schema.

    Raises:
        DatabaseError: it is missing, unfinished, of another schema version, or a shard is damaged
            (which is named).
    """
    manifest = _read_manifest(folder)
    refuse(
        not manifest,
        f"{folder} is no finished mask database, or its manifest is damaged. "
        f"{_REBUILD.format('what is missing')}",
        DatabaseError,
    )
    refuse(
        not _is_sound(manifest),
        f"{folder} has schema version {manifest.get('schema_version')}; this bogp reads "
        f"{SCHEMA_VERSION}. {_REBUILD.format('the manifest')}",
        DatabaseError,
    )
    spec = _spec_from_json(manifest["spec"], folder)
    tables = []
    for i, expected in enumerate(manifest["shards"]):
        path = folder / _shard_name(i)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DatabaseError(
                f"{path} is missing or unreadable ({error.strerror}). "
                f"{_REBUILD.format('this shard alone')}"
            ) from None
        refuse(
            hashlib.sha256(content).hexdigest() != expected,
            f"{path} is damaged: its checksum is not the manifest's. "
            f"{_REBUILD.format('this shard alone')}",
            DatabaseError,
        )
        tables.append(pq.read_table(io.BytesIO(content)))
        refuse(
            tables[-1].schema.names != _COLUMNS,
            f"{path} has columns {tables[-1].schema.names}; expected {_COLUMNS}. "
            f"{_REBUILD.format('this shard alone')}",
            DatabaseError,
        )
    refuse(
        len(tables) != len(spec.shards),
        f"{folder}/manifest.json lists {len(tables)} shards where its spec makes "
        f"{len(spec.shards)}. Build it again.",
        DatabaseError,
    )
    whole = pa.concat_tables(tables)
    bits = np.frombuffer(b"".join(whole.column("bits").to_pylist()), dtype=np.uint8)
    return MaskDatabase(
        whole.drop_columns(["bits"]).to_pandas(), spec, bits.reshape(len(whole), -1)
    )


def load(name: str, *, workers: int = -1) -> MaskDatabase:
    """The database of that name; one of ``NAMED`` is built where it is missing or unfinished.

    Args:
        name: one of ``NAMED``, or of a database that you built with ``build(spec,
            paths.database_dir(name))``.
        workers: processes of a build, -1 for one a core.

    Raises:
        InvalidInput: there is no database of that name.
        DatabaseError: its folder holds a database of another spec, or is damaged.
    """
    folder = paths.database_dir(name)
    return (
        open_database(folder)
        if name not in NAMED and folder.exists()
        else build(named(name), folder, workers=workers)
    )


_REBUILD = "Run bogp.graphs.database.build with the same spec: it rebuilds {}."
_COLUMNS = [
    "mask_id",
    "family",
    "parameters",
    "seed",
    "target_sparsity",
    "sparsity",
    *properties.ALL,
    "bits",
]


def fit_scaling(database: MaskDatabase, columns: Sequence[str], name: str = "minmax") -> Scaling:
    """Fit a named scaling: ``minmax`` to [0, 1], ``zscore`` to mean 0 and standard deviation 1,
    ``none`` (the paper names none).

    Args:
        database: whose rows it is fitted on; NaN is ignored.
        columns: numeric columns of the table: properties, or others that it has.
        name: of the scaling.

    Returns:
        The scaling, over those of the columns that vary.

    Raises:
        InvalidInput: an unknown scaling, no columns, one that the table does not have or that holds
            no numbers, or none that varies.
        DatabaseError: the database is empty.
    """
    choice("scaling", name, SCALINGS)
    allowed = tuple(database.table.select_dtypes("number").columns)
    refuse(
        isinstance(columns, str)
        or not (columns := texts("columns", columns))
        or not set(columns) <= set(allowed),
        f"columns are {columns}; name one or more of {', '.join(allowed)}.",
    )
    refuse(
        len(database) == 0,
        "The database is empty: there is nothing to scale or to search.",
        DatabaseError,
    )
    constants = [_scaling_constants(database.table[c].to_numpy(np.float64)) for c in columns]
    # rounding is no variation
    kept = [
        i for i, c in enumerate(constants) if c["max"] - c["min"] > 1e-9 * max(abs(c["max"]), 1.0)
    ]
    refuse(
        not kept,
        f"Each of {', '.join(columns)} is constant over the {len(database)} masks: "
        "nothing tells them apart.",
    )
    low, high, mean, std = (
        np.array([constants[i][k] for i in kept]) for k in ("min", "max", "mean", "std")
    )
    offset, scale = {
        "minmax": (low, high - low),
        "zscore": (mean, std),
        "none": (np.zeros(len(kept)), np.ones(len(kept))),
    }[name]
    return Scaling(name, tuple(columns[i] for i in kept), offset, scale)


def nearest(
    queries: ArrayLike, database: MaskDatabase, scaling: Scaling, metric: str = "cosine"
) -> Nearest:
    """Algorithm 2: the mask whose property vector is most similar to each query.

    Args:
        queries: (d,) or (Q, d) property values, in the order of ``scaling.columns``, in the
            properties' own units.
        database: the masks to choose from.
        scaling: from ``fit_scaling``.
        metric: ``cosine``, ``l1`` or ``l2``, taken after scaling.

    Returns:
        Row, similarity and the number of rows left out. Ties go to the lowest row. Under cosine a
        zero vector has similarity 0 to all.

    Raises:
        InvalidInput: a query of the wrong length, with NaN or infinity; an unknown metric.
        DatabaseError: no row has all the properties.
    """
    points = np.atleast_2d(floats("queries", queries))
    choice("metric", metric, METRICS)
    refuse(
        points.ndim != 2 or points.shape[1] != len(scaling.columns),
        f"A query holds {len(scaling.columns)} values ({', '.join(scaling.columns)}); got "
        f"an array of shape {np.shape(queries)}.",
    )
    if not np.isfinite(points).all():
        raise InvalidInput(
            f"A query holds NaN or infinity: {points[~np.isfinite(points).all(axis=1)][0]}."
        )
    values = database.values(scaling.columns)
    complete = np.isfinite(values).all(axis=1)
    refuse(
        not complete.any(),
        f"None of the {len(database)} masks has a finite value for each of "
        f"{', '.join(scaling.columns)}.",
        DatabaseError,
    )
    similarity = _similarity(scaling.transform(points), scaling.transform(values[complete]), metric)
    best = np.argmax(similarity >= similarity.max(axis=1, keepdims=True) - _TIE, axis=1)
    return Nearest(
        np.flatnonzero(complete)[best],
        similarity[np.arange(len(best)), best],
        int((~complete).sum()),
    )


def _similarity(
    points: NDArray[np.float64], rows: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    return (
        _unit(points) @ _unit(rows).T
        if metric == "cosine"
        else -cdist(points, rows, "cityblock" if metric == "l1" else "euclidean")
    )


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1.0)


def _draw(spec: DatabaseSpec, draw: mask_families.Family, sparsity: float, number: int) -> Mask:
    # the same mask whatever other sparsities the database has, and however it is sharded
    rng = _generator(spec, round(sparsity * 1e9), number)
    return draw(spec.n, sparsity, rng, **dict(spec.parameters))


def _generator(spec: DatabaseSpec, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))


def _write_shard(spec: DatabaseSpec, draw: mask_families.Family, folder: Path, shard: int) -> int:
    from threadpoolctl import threadpool_limits

    sparsity, numbers = spec.shards[shard]
    # the workers share the cores already; and one thread gives the same bits everywhere
    with threadpool_limits(1):
        targets = [
            spec.drawn_target(number) if sparsity is None else sparsity for number in numbers
        ]
        drawn = np.stack(
            [
                _draw(spec, draw, target, number)
                for target, number in zip(targets, numbers, strict=True)
            ]
        )
        measured = properties.measure(drawn)
    columns: dict[str, Any] = {
        "mask_id": [
            f"drawn-{number:05d}" if sparsity is None else f"s{sparsity!r}-{number:05d}"
            for number in numbers
        ],
        "family": [spec.family] * len(drawn),
        "parameters": [json.dumps(dict(spec.parameters), sort_keys=True)] * len(drawn),
        "seed": np.full(len(drawn), spec.seed, dtype=np.int64),
        "target_sparsity": np.array(targets, dtype=np.float64),
        "sparsity": mask_sparsity(drawn),
        **{name: measured[name].to_numpy() for name in properties.ALL},
        "bits": [np.packbits(m.reshape(-1)).tobytes() for m in drawn],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", write_page_checksum=True)
    write_atomically({folder / _shard_name(shard): buffer.getvalue()})
    return shard


def _shard_name(shard: int) -> str:
    return f"part-{shard:05d}.parquet"


def _readable(path: Path, rows: int) -> bool:
    """Whether a shard is whole; a damaged one counts as missing and is built again."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        return table.schema.names == _COLUMNS and len(table) == rows and _matches_manifest(path)
    except (OSError, pa.ArrowException):
        return False


def _matches_manifest(path: Path) -> bool:
    manifest = _read_manifest(path.parent)
    if not _is_sound(manifest):  # without one, as in a build that was interrupted, all do
        return manifest.get("schema_version", SCHEMA_VERSION) == SCHEMA_VERSION
    number = int(path.stem.removeprefix("part-"))
    return (
        number < len(manifest["shards"])
        and manifest["shards"][number] == hashlib.sha256(path.read_bytes()).hexdigest()
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, empty where there is none, it cannot be read, or it is not what was written."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(manifest, dict):
        return {}
    # Manifests of earlier versions have no checksum.
    unchecked = manifest.get("schema_version") != SCHEMA_VERSION or "sha256" not in manifest
    return manifest if unchecked or manifest["sha256"] == _checksum(manifest) else {}


def _checksum(manifest: dict[str, Any]) -> str:
    """Of all that a manifest says beside its checksum."""
    said = json.dumps({k: v for k, v in manifest.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _is_sound(manifest: dict[str, Any]) -> bool:
    return (
        manifest.get("schema_version") == SCHEMA_VERSION
        and isinstance(manifest.get("shards"), list)
        and "spec" in manifest
    )


def _claim(spec: DatabaseSpec, folder: Path) -> None:
    """Write the spec into a new folder, or make sure that the folder is of the same spec."""
    path = folder / "spec.json"
    if path.exists():
        try:
            fields = json.loads(path.read_text())
        except (OSError, ValueError):
            raise DatabaseError(
                f"{path} cannot be read. Delete the folder {folder} and build again."
            ) from None
        found = asdict(_spec_from_json(fields, folder))
        different = [k for k, v in asdict(spec).items() if found[k] != v]
        refuse(
            different,
            f"{path} says that the folder already holds a database with other "
            f"{', '.join(different)}. Choose another name, or delete the folder.",
            DatabaseError,
        )
    else:
        write_atomically({path: (json.dumps(_as_json(spec), indent=2) + "\n").encode()})


def _write_manifest(spec: DatabaseSpec, folder: Path) -> None:
    paths_of_shards = [folder / _shard_name(i) for i in range(len(spec.shards))]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "spec": _as_json(spec),
        "shards": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths_of_shards],
        "scaling": _all_constants(spec, paths_of_shards),
    }
    manifest["sha256"] = _checksum(manifest)
    write_atomically({folder / "manifest.json": (json.dumps(manifest, indent=2) + "\n").encode()})
    # of builds that were killed; a young one may be another process's work
    for left_over in folder.glob(".*.tmp"):
        if time.time() - left_over.stat().st_mtime > 3600:
            left_over.unlink(missing_ok=True)


def _all_constants(
    spec: DatabaseSpec, shards: Sequence[Path]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Constants of each scaling, for each sparsity or over a whole range: what ``fit_scaling``
    uses, kept for readers of other languages.
    """
    columns = ["target_sparsity", *properties.ALL]
    whole = pa.concat_tables([pq.read_table(path, columns=columns) for path in shards]).to_pandas()
    groups = {repr(float(s)): group for s, group in whole.groupby("target_sparsity")}
    return {
        name: {
            c: {
                k: v if np.isfinite(v) else None
                for k, v in _scaling_constants(group[c].to_numpy(np.float64)).items()
            }
            for c in properties.ALL
        }
        for name, group in ({"all": whole} if spec.sparsity_range else groups).items()
    }


def _scaling_constants(values: NDArray[np.float64]) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    names = ("min", "max", "mean", "std")
    return {k: float(getattr(finite, k)()) if len(finite) else float("nan") for k in names}


def _as_json(spec: DatabaseSpec) -> dict[str, Any]:
    """The fields of a spec; without a range, those that it had before there were ranges, so that
    the files stay the same.
    """
    return {k: v for k, v in asdict(spec).items() if k != "sparsity_range" or v is not None}


def _spec_from_json(fields: dict[str, Any], folder: Path) -> DatabaseSpec:
    try:
        return DatabaseSpec(**fields)
    except (TypeError, ValueError) as error:
        raise DatabaseError(
            f"The spec in {folder} cannot be read ({error}). Delete the folder and build again."
        ) from None
