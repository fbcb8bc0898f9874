import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist

from bogp import paths
from bogp.errors import DatabaseError, InvalidInput, UnreachableSparsity
from bogp.graphs import database, families, properties
from bogp.graphs.database import (
    DatabaseSpec,
    MaskDatabase,
    build,
    fit_scaling,
    nearest,
    open_database,
)

# nine shards; at .85 many graphs are disconnected
SPEC = DatabaseSpec((0.3, 0.6, 0.85), masks_per_sparsity=10, n=16, seed=7, shard_size=4)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """One uninterrupted build, to be read only."""
    folder = tmp_path_factory.mktemp("databases") / "whole"
    build(SPEC, folder, workers=1)
    return folder


@pytest.fixture
def folder(built, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(built, tmp_path / "copy")


@pytest.fixture(scope="session")
def opened(built):
    return open_database(built)


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


# --- Algorithm 1: building ---


def test_a_database_holds_the_masks_that_its_spec_asks_for(opened):
    assert len(opened) == 30
    assert opened.table["target_sparsity"].value_counts().to_dict() == {0.3: 10, 0.6: 10, 0.85: 10}
    assert opened.table["mask_id"].is_unique
    drawn = opened.masks()
    assert drawn.shape == (30, 16, 16)
    np.testing.assert_allclose(opened.table["sparsity"], 1 - drawn.mean((1, 2)), atol=1e-12)
    assert len({m.tobytes() for m in drawn}) == 30
    np.testing.assert_array_equal(opened.mask(13), drawn[13])


def test_the_properties_in_the_table_are_those_of_the_stored_masks(opened):
    found = opened.table[list(properties.ALL)]
    pd.testing.assert_frame_equal(found, properties.measure(opened.masks()), rtol=1e-12)
    assert found["path_length"].isna().any()  # disconnected masks are kept


@pytest.mark.parametrize(
    "lost",
    [
        ["part-00000.parquet"],
        ["part-00004.parquet", "part-00008.parquet", "manifest.json"],
        ["manifest.json"],
    ],
)
def test_a_build_with_parts_lost_ends_in_the_same_bytes(built, folder, lost):
    for name in lost:
        (folder / name).unlink()
    build(SPEC, folder, workers=1)
    assert files(folder) == files(built)


def test_a_build_that_broke_off_resumes_to_the_same_bytes(built, tmp_path, monkeypatch):
    calls = 0

    def breaking(*arguments):
        nonlocal calls
        calls += 1
        if calls > 15:  # three to check the sparsities, then three shards
            raise KeyboardInterrupt
        return families.bernoulli(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(families.FAMILIES, "bernoulli", breaking)
        build(SPEC, tmp_path / "x", workers=1)
    assert 0 < len(list((tmp_path / "x").glob("part-*"))) < 9
    with pytest.raises(DatabaseError, match="no finished mask database"):
        open_database(tmp_path / "x")
    build(SPEC, tmp_path / "x", workers=1)
    assert files(tmp_path / "x") == files(built)


def test_two_workers_write_the_same_bytes_as_one(built, tmp_path):
    build(SPEC, tmp_path / "x", workers=2)
    assert files(tmp_path / "x") == files(built)


def test_building_again_touches_nothing(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    build(SPEC, folder, workers=1)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_a_mask_depends_neither_on_the_other_sparsities_nor_on_the_shards(opened, tmp_path):
    alone = build(
        DatabaseSpec((0.6,), masks_per_sparsity=7, n=16, seed=7, shard_size=3),
        tmp_path / "x",
        workers=1,
    )
    np.testing.assert_array_equal(alone.masks(), opened.at(0.6).masks()[:7])
    other_seed = build(
        DatabaseSpec((0.6,), masks_per_sparsity=2, n=16, seed=8), tmp_path / "y", workers=1
    )
    assert (other_seed.masks() != alone.masks()[:2]).any(axis=(1, 2)).all()


def test_another_spec_in_the_same_folder_is_refused_and_named(folder):
    before = files(folder)
    for other, text in (
        (replace(SPEC, seed=8), "other seed"),
        (replace(SPEC, sparsities=(0.3,), n=17), "other sparsities, n"),
    ):
        with pytest.raises(DatabaseError, match=text):
            build(other, folder, workers=1)
    assert files(folder) == before


def test_an_unreachable_sparsity_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UnreachableSparsity, match="barabasi_albert"):
        build(
            DatabaseSpec((0.8, 0.2), 2, n=16, family="barabasi_albert"), tmp_path / "x", workers=1
        )
    assert not (tmp_path / "x").exists()


def test_parameters_reach_the_family_and_the_table(tmp_path):
    spec = DatabaseSpec((0.7,), 3, n=16, family="ws_flex", parameters=(("rewire", 0.0),))
    ring = build(spec, tmp_path / "x", workers=1)
    assert [json.loads(p) for p in ring.table["parameters"]] == [{"rewire": 0.0}] * 3
    expected = families.ws_flex(16, 0.7, np.random.default_rng(0), rewire=0.0)
    np.testing.assert_array_equal(ring.masks().sum((1, 2)), [expected.sum()] * 3)
    # parameters survive the way through JSON
    assert build(spec, tmp_path / "x", workers=1).spec == spec


def test_a_parameter_that_is_a_tuple_can_be_built_again(tmp_path):
    def pattern(n, sparsity, rng, offsets):
        return np.isin(
            (np.arange(n)[:, None] - np.arange(n)) % n, [*offsets, *(n - o for o in offsets)]
        )

    spec = DatabaseSpec((0.5,), 1, n=8, family="pattern", parameters=(("offsets", (1, 2)),))
    build(spec, tmp_path / "x", workers=1, sampler=pattern)
    assert len(build(spec, tmp_path / "x", workers=1, sampler=pattern)) == 1


def test_a_sampler_of_your_own_needs_a_name_of_its_own(tmp_path):
    with pytest.raises(InvalidInput, match="a family name of their own"):
        build(SPEC, tmp_path / "x", workers=1, sampler=families.erdos_renyi)
    assert not (tmp_path / "x").exists()


def test_a_sampler_of_your_own_is_used(tmp_path):
    def matching(n, sparsity, rng):
        half = rng.permutation(n).reshape(2, -1)
        mask = np.zeros((n, n), dtype=bool)
        mask[half[0], half[1]] = mask[half[1], half[0]] = True
        return mask

    found = build(
        DatabaseSpec((0.9,), 3, n=10, family="matching"),
        tmp_path / "x",
        workers=1,
        sampler=matching,
    )
    assert (found.masks().sum(1) == 1).all()
    assert set(found.table["family"]) == {"matching"}
    assert len({m.tobytes() for m in found.masks()}) == 3


def test_an_unknown_family_or_parameter_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InvalidInput, match="no mask family 'watts'"):
        build(DatabaseSpec((0.5,), 2, n=8, family="watts"), tmp_path / "x")
    with pytest.raises(InvalidInput):
        build(DatabaseSpec((0.5,), 2, n=8, parameters=(("rewire", 0.5),)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"sparsities": ()},
        {"sparsities": (0.5, 0.5)},
        {"sparsities": (0.0,)},
        {"sparsities": (float("nan"),)},
        {"n": 0},
        {"masks_per_sparsity": 0},
        {"shard_size": 0},
        {"seed": -1},
    ],
)
def test_a_spec_without_a_meaning_is_refused(fields):
    with pytest.raises(InvalidInput):
        DatabaseSpec(**{"sparsities": (0.5,), **fields})


def test_a_folder_that_cannot_be_written_is_a_database_error(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bogp.records.os.replace", full_disk)
    with pytest.raises(DatabaseError, match="No space left"):  # as the docstring of build says
        build(SPEC, tmp_path / "x", workers=1)


def test_sparsities_that_differ_in_the_seventh_digit_stay_apart(tmp_path):
    # A database that spans sparsities draws a thousand of them from U(.1, .99).
    close = build(DatabaseSpec((0.12345671, 0.12345674), 2, n=8), tmp_path / "x", workers=1)
    assert len(json.loads((tmp_path / "x" / "manifest.json").read_text())["scaling"]) == 2
    assert close.table["mask_id"].is_unique
    assert len(close.at(0.12345671)) == 2


# --- sparsities drawn from a range ---

SPREAD = DatabaseSpec((), 30, n=32, seed=3, shard_size=7, sparsity_range=(0.2, 0.9))


def test_targets_drawn_from_a_range_fill_it_and_are_met(tmp_path):
    table = build(SPREAD, tmp_path / "x", workers=1).table
    target = table["target_sparsity"].to_numpy()
    assert len(set(target)) == len(table) == 30
    assert table["mask_id"].is_unique
    assert 0.2 <= target.min() < 0.3
    assert 0.8 < target.max() <= 0.9
    # of half as many free entries as the mask has
    assert np.abs(table["sparsity"] - target).max() < 4 * np.sqrt(2 * 0.25) / 32
    uniform = [
        DatabaseSpec((), 1, n=4, seed=seed, sparsity_range=(0.2, 0.9)).drawn_target(0)
        for seed in range(2000)
    ]
    assert np.histogram(uniform, 7, (0.2, 0.9))[0].min() > 2000 / 7 - 4 * np.sqrt(2000 / 7)


def test_a_mask_of_a_range_depends_neither_on_the_shards_nor_on_the_number_of_masks(tmp_path):
    whole = build(SPREAD, tmp_path / "x", workers=1)
    fewer = build(replace(SPREAD, masks_per_sparsity=11, shard_size=4), tmp_path / "y", workers=2)
    np.testing.assert_array_equal(whole.masks()[:11], fewer.masks())
    pd.testing.assert_frame_equal(whole.table[:11], fewer.table)
    (tmp_path / "x" / "part-00002.parquet").unlink()
    before = files(tmp_path / "x")
    assert build(SPREAD, tmp_path / "x", workers=1).spec == SPREAD
    assert before.items() <= files(tmp_path / "x").items()
    np.testing.assert_array_equal(open_database(tmp_path / "x").masks(), whole.masks())
    other = build(replace(SPREAD, seed=4), tmp_path / "z", workers=1)
    assert (other.table["target_sparsity"] != whole.table["target_sparsity"]).all()


def test_a_database_of_a_range_has_no_single_sparsity(tmp_path):
    whole = build(SPREAD, tmp_path / "x", workers=1)
    for sparsity in (0.6, whole.table["target_sparsity"][0]):
        with pytest.raises(
            DatabaseError,
            match=r"no masks of sparsity 0\.\d+; it holds any sparsity between 0\.2 and 0\.9",
        ):
            whole.at(sparsity)
    with pytest.raises(DatabaseError, match="other sparsity_range"):
        build(replace(SPREAD, sparsity_range=(0.2, 0.95)), tmp_path / "x", workers=1)


def test_the_manifest_of_a_range_has_one_set_of_constants(tmp_path):
    whole = build(SPREAD, tmp_path / "x", workers=1)
    constants = json.loads((tmp_path / "x" / "manifest.json").read_text())["scaling"]
    assert list(constants) == ["all"]
    assert constants["all"]["clustering"]["max"] == whole.table["clustering"].max()


def test_a_database_without_a_range_has_the_files_that_it_had_before_there_were_ranges(built):
    fields = ["sparsities", "masks_per_sparsity", "n", "family", "parameters", "seed", "shard_size"]
    assert list(json.loads((built / "spec.json").read_text())) == fields
    assert list(json.loads((built / "manifest.json").read_text())["spec"]) == fields
    assert open_database(built).spec == SPEC


@pytest.mark.parametrize("extreme", [(0.3, 0.9), (0.6, 0.999)], ids=str)
def test_a_range_that_the_family_cannot_reach_is_refused_before_anything_is_written(
    extreme, tmp_path
):
    with pytest.raises(UnreachableSparsity, match="barabasi_albert"):
        build(
            DatabaseSpec((), 2, n=16, family="barabasi_albert", sparsity_range=extreme),
            tmp_path / "x",
            workers=1,
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sparsities": (0.5,), "sparsity_range": (0.2, 0.9)},
        {"sparsity_range": (0.9, 0.2)},
        {"sparsity_range": (0.5, 0.5)},
        {"sparsity_range": (0.5,)},
        {"sparsity_range": (0.0, 0.5)},
        {"sparsity_range": (0.5, 1.0)},
        {"sparsity_range": (0.5, float("nan"))},
    ],
    ids=str,
)
def test_sparsities_or_a_range_of_them_are_needed(fields):
    with pytest.raises(InvalidInput, match=r"[Ss]parsit"):
        DatabaseSpec(**fields)


# --- what is on disk ---


def test_plain_pyarrow_reads_the_shards_and_the_bits(built, opened):
    parts = [pq.read_table(p) for p in sorted(built.glob("part-*.parquet"))]
    assert [len(p) for p in parts] == [4, 4, 2] * 3
    names = {
        "mask_id",
        "family",
        "parameters",
        "seed",
        "target_sparsity",
        "sparsity",
        "bits",
        *properties.ALL,
    }
    assert set(parts[0].schema.names) == names
    packed = np.frombuffer(parts[1].column("bits")[0].as_py(), np.uint8)
    np.testing.assert_array_equal(np.unpackbits(packed)[:256].reshape(16, 16), opened.mask(4))


def test_the_manifest_holds_the_constants_that_fit_scaling_uses(built, opened):
    constants = json.loads((built / "manifest.json").read_text())["scaling"]
    for sparsity in SPEC.sparsities:
        scaling = fit_scaling(opened.at(sparsity), properties.ALL)
        for i, column in enumerate(scaling.columns):
            each = constants[f"{sparsity:g}"][column]
            assert (each["min"], each["max"] - each["min"]) == (scaling.offset[i], scaling.scale[i])


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "empty"])
def test_a_damaged_shard_is_named_and_rebuilt_alone(built, folder, damage):
    path = folder / "part-00003.parquet"
    if damage == "flip":
        flip(path, len(path.read_bytes()) // 2)
    elif damage == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -50 if damage == "truncate" else 0])
    others = {p: p.stat().st_mtime_ns for p in folder.glob("part-*") if p != path}
    with pytest.raises(
        DatabaseError, match=r"part-00003\.parquet is (damaged|missing).*rebuilds this shard"
    ):
        open_database(folder)
    build(SPEC, folder, workers=1)
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert files(folder) == files(built)


def test_wherever_a_byte_is_flipped_the_shard_is_rebuilt(built, folder):
    path = folder / "part-00008.parquet"
    good = path.read_bytes()
    for position in range(0, len(good), len(good) // 25):
        flip(path, position)
        assert not database._readable(path, 2)
        path.write_bytes(good)
    assert database._readable(path, 2)


def test_before_there_is_a_manifest_a_damaged_shard_is_noticed_by_its_page_checksums(built, folder):
    (folder / "manifest.json").unlink()
    flip(folder / "part-00000.parquet", 40)
    build(SPEC, folder, workers=1)
    assert files(folder) == files(built)


def test_a_missing_manifest_is_told(folder, tmp_path):
    (folder / "manifest.json").unlink()
    for path in (folder, tmp_path / "absent"):
        with pytest.raises(DatabaseError, match="no finished mask database"):
            open_database(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1}'])
def test_a_damaged_manifest_is_told_and_building_again_mends_it(built, folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(DatabaseError):
        open_database(folder)
    build(SPEC, folder, workers=1)
    assert files(folder) == files(built)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"seed": 7', '"seed": 3'),
        ('"family": "bernoulli"', '"family": "bernouwli"'),
        ('"min": 0.', '"min": 1.'),
    ],
)
def test_a_manifest_that_was_changed_is_noticed_and_building_again_mends_it(
    before, after, built, folder
):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(before, after, 1))
    assert path.read_bytes() != (built / "manifest.json").read_bytes()
    with pytest.raises(DatabaseError, match="its manifest is damaged"):
        open_database(folder)
    build(SPEC, folder, workers=1)
    assert files(folder) == files(built)


def test_a_manifest_from_before_it_had_a_checksum_is_read(folder, opened):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert open_database(folder).table.equals(opened.table)


def test_another_schema_version_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(
        DatabaseError, match=f"schema version 99; this bogp reads {database.SCHEMA_VERSION}"
    ):
        open_database(folder)


def test_building_again_replaces_another_schema_version_as_the_message_promises(built, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    build(SPEC, folder, workers=1)
    assert files(folder) == files(built)


def test_a_damaged_spec_is_told(folder):
    (folder / "spec.json").write_text("{")
    with pytest.raises(DatabaseError, match="Delete the folder"):
        build(SPEC, folder, workers=1)


def test_the_masks_of_one_sparsity_are_its_rows(opened):
    part = opened.at(0.6)
    assert set(part.table["target_sparsity"]) == {0.6}
    np.testing.assert_array_equal(part.masks(), opened.masks()[10:20])
    assert part.table.index.tolist() == list(range(10))


def test_a_sparsity_that_is_not_held_is_refused(opened):
    for absent in (0.5, 0.600004):
        with pytest.raises(
            DatabaseError, match=r"no masks of sparsity 0\.\d+; it holds 0\.3, 0\.6, 0\.85"
        ):
            opened.at(absent)
    with pytest.raises(InvalidInput):
        opened.at(1.2)


# --- a database by its name ---


def test_the_named_databases_are_what_the_notebooks_always_searched():
    six = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
    assert database.named("paper") == DatabaseSpec(six, 1000, 128, "bernoulli", seed=0)
    assert database.named("smoke") == DatabaseSpec(six, 50)
    spread = DatabaseSpec((), 1000, 128, "bernoulli", seed=0, sparsity_range=(0.1, 0.99))
    assert database.named("paper-spread") == spread
    assert database.named("smoke-spread") == replace(spread, masks_per_sparsity=60)


def test_a_name_builds_once_and_then_opens(monkeypatch, tmp_path):
    monkeypatch.setenv("BOGP_HOME", str(tmp_path))
    monkeypatch.setitem(database.NAMED, "tiny", DatabaseSpec((0.5,), 3, n=8))
    first = database.load("tiny", workers=1)
    before = files(paths.database_dir("tiny"))
    assert first.spec == database.named("tiny")
    assert database.load("tiny").table.equals(first.table)
    assert files(paths.database_dir("tiny")) == before
    monkeypatch.setitem(database.NAMED, "tiny", DatabaseSpec((0.6,), 3, n=8))
    with pytest.raises(DatabaseError, match="other sparsities"):
        database.load("tiny")


def test_a_database_of_ones_own_is_loaded_by_its_name_too(monkeypatch, tmp_path):
    monkeypatch.setenv("BOGP_HOME", str(tmp_path))
    with pytest.raises(
        InvalidInput, match="no database 'mine'; there are: smoke, paper, smoke-spread"
    ):
        database.load("mine")
    with pytest.raises(InvalidInput, match="no usable name"):
        database.load("../mine")
    own = build(DatabaseSpec((0.5,), 3, n=8), paths.database_dir("mine"), workers=1)
    assert database.load("mine").table.equals(own.table)


# --- Algorithm 2: the nearest mask ---


def synthetic(**columns):
    """A database of given property values; its masks do not matter here."""
    table = pd.DataFrame(columns, dtype=float)
    return MaskDatabase(table, SPEC, np.zeros((len(table), 32), np.uint8))


def scaled_by_hand(values, queries, scaling):
    low, high, mean, std = (
        np.nanmin(values, 0),
        np.nanmax(values, 0),
        np.nanmean(values, 0),
        np.nanstd(values, 0),
    )
    offset, scale = {"minmax": (low, high - low), "zscore": (mean, std), "none": (0.0, 1.0)}[
        scaling
    ]
    return (values - offset) / scale, (queries - offset) / scale


@pytest.mark.parametrize("scaling", database.SCALINGS)
@pytest.mark.parametrize("metric", database.METRICS)
def test_nearest_equals_brute_force(opened, metric, scaling):
    columns = [
        "degree_centrality",
        "clustering",
        "path_length",
        "eigenvector_centrality",
        "cycle_rank",
    ]
    values = opened.values(columns)
    complete = np.isfinite(values).all(1)
    assert 0 < complete.sum() < len(opened)
    queries = np.random.default_rng(0).uniform(np.nanmin(values, 0), np.nanmax(values, 0), (40, 5))
    rows, points = scaled_by_hand(values, queries, scaling)
    distance = cdist(
        points, rows, {"cosine": "cosine", "l1": "cityblock", "l2": "euclidean"}[metric]
    )
    distance[:, ~complete] = np.inf
    found = nearest(queries, opened, fit_scaling(opened, columns, scaling), metric)
    np.testing.assert_allclose(distance[np.arange(40), found.row], distance.min(1), atol=1e-11)
    np.testing.assert_allclose(found.similarity, (metric == "cosine") - distance.min(1), atol=1e-10)
    assert found.left_out == (~complete).sum()


@pytest.mark.parametrize("metric", database.METRICS)
def test_many_queries_at_once_give_the_same_as_one_by_one(opened, metric):
    scaling = fit_scaling(opened, properties.PAPER_FIVE)
    queries = scaling.inverse(np.random.default_rng(1).random((30, len(scaling.columns))))
    together = nearest(queries, opened, scaling, metric)
    single = [nearest(query, opened, scaling, metric) for query in queries]
    np.testing.assert_array_equal(together.row, [one.row[0] for one in single])
    np.testing.assert_allclose(
        together.similarity, [one.similarity[0] for one in single], rtol=1e-12
    )


@pytest.mark.parametrize("metric", database.METRICS)
@pytest.mark.parametrize("scaling", database.SCALINGS)
def test_a_mask_queried_by_its_own_properties_is_found_and_equals_go_to_the_lowest_row(
    metric, scaling
):
    rng = np.random.default_rng(3)
    distinct = rng.random((12, 4))
    values = np.concatenate([distinct, distinct[::-1], distinct])  # each row three times
    found = synthetic(**dict(zip(properties.NINE, values.T, strict=False)))
    result = nearest(values, found, fit_scaling(found, properties.NINE[:4], scaling), metric)
    np.testing.assert_array_equal(result.row, [*range(12), *range(11, -1, -1), *range(12)])
    np.testing.assert_allclose(result.similarity, 1.0 if metric == "cosine" else 0.0, atol=1e-12)


def test_rows_a_millionth_of_a_radian_apart_are_no_tie():
    # Unscaled, one large column puts all rows at nearly the same angle; their cosines still differ
    # by a thousand rounding errors.
    found = synthetic(clustering=[0.3, 0.3005, 0.301], s_metric=[1000.0, 1000.0, 1000.0 + 1e-5])
    scaling = fit_scaling(found, ["clustering", "s_metric"], "none")
    np.testing.assert_array_equal(
        nearest(found.values(scaling.columns), found, scaling).row, [0, 1, 2]
    )


def test_rounding_does_not_decide_between_rows_in_the_same_direction():
    direction, lengths = np.array([0.1, 0.3, 0.7]), np.arange(1, 60) / 7
    found = synthetic(**dict(zip(properties.NINE, (lengths[:, None] * direction).T, strict=False)))
    scaling = fit_scaling(found, properties.NINE[:3], "none")
    assert set(nearest(found.values(scaling.columns), found, scaling).row) == {0}


def test_a_zero_vector_has_similarity_zero_to_all():
    found = synthetic(clustering=[0.0, 1.0, 0.5], s_metric=[0.0, 1.0, 1.0])
    scaling = fit_scaling(found, ["clustering", "s_metric"])
    zero = nearest([0.0, 0.0], found, scaling)
    assert (zero.row[0], zero.similarity[0]) == (0, 0.0)
    # The first row is the zero vector after scaling: any row at a sharp angle is nearer, none at a
    # blunt one.
    assert nearest([1.0, 1.0], found, scaling).row[0] == 1
    blunt = nearest([-1.0, -1.0], found, scaling)
    assert (blunt.row[0], blunt.similarity[0]) == (0, 0.0)


def test_rows_with_a_missing_property_are_left_out_counted_and_never_found():
    found = synthetic(path_length=[np.nan, 2.0, np.nan, 3.0], clustering=[0.9, 0.1, 0.8, 0.7])
    for metric in database.METRICS:
        result = nearest(
            [[2.9, 0.9], [2.0, 0.1]],
            found,
            fit_scaling(found, ["path_length", "clustering"]),
            metric,
        )
        assert result.left_out == 2
        assert result.row.tolist() == [3, 1] or metric == "cosine"
        assert set(result.row) <= {1, 3}
    without = nearest([0.9], found, fit_scaling(found, ["clustering"]), "l1")
    # only a property that is used can be missing
    assert (without.row[0], without.left_out) == (0, 0)


def test_if_every_row_misses_a_property_that_is_told():
    found = synthetic(path_length=[np.nan, 2.0, 3.0, np.nan], clustering=[0.9, np.nan, np.nan, 0.7])
    with pytest.raises(DatabaseError, match="None of the 4 masks"):
        nearest([2.0, 0.8], found, fit_scaling(found, ["path_length", "clustering"]))


@pytest.mark.parametrize(
    "query", [[np.nan, 1.0], [np.inf, 1.0], [1.0], [1.0, 2.0, 3.0], [[[1.0, 2.0]]], 1.0, []]
)
def test_a_query_of_the_wrong_length_or_not_finite_is_refused(query):
    found = synthetic(clustering=[0.0, 1.0], s_metric=[3.0, 4.0])
    with pytest.raises(InvalidInput, match="query"):
        nearest(query, found, fit_scaling(found, ["clustering", "s_metric"]))


@pytest.mark.parametrize("metric", database.METRICS)
def test_no_queries_give_no_answers(metric):
    found = synthetic(clustering=[0.0, 1.0], s_metric=[3.0, 4.0])
    assert (
        len(
            nearest(
                np.zeros((0, 2)), found, fit_scaling(found, ["clustering", "s_metric"]), metric
            ).row
        )
        == 0
    )


def test_constant_and_never_finite_columns_are_left_out_of_the_scaling():
    found = synthetic(
        clustering=[0.0, 1.0],
        s_metric=[3.0, 3.0 + 1e-15],
        path_length=[np.nan, np.nan],
        cycle_rank=[1.0, 2.0],
    )
    for name in database.SCALINGS:
        scaling = fit_scaling(found, ["s_metric", "cycle_rank", "path_length", "clustering"], name)
        assert scaling.columns == ("cycle_rank", "clustering")
        np.testing.assert_allclose(
            scaling.inverse(scaling.transform(found.values(scaling.columns))),
            found.values(scaling.columns),
        )
    with pytest.raises(InvalidInput, match="constant over the 2 masks"):
        fit_scaling(found, ["s_metric", "path_length"])


def test_minmax_spans_zero_to_one_and_zscore_has_mean_zero_and_deviation_one(opened):
    part = opened.at(0.3)
    for name in ("minmax", "zscore"):
        scaling = fit_scaling(part, properties.PAPER_FIVE, name)
        scaled = scaling.transform(part.values(scaling.columns))
        if name == "minmax":
            np.testing.assert_allclose(
                [scaled.min(0), scaled.max(0)],
                [np.zeros(scaled.shape[1]), np.ones(scaled.shape[1])],
                atol=1e-12,
            )
        else:
            np.testing.assert_allclose(
                [scaled.mean(0), scaled.std(0)],
                [np.zeros(scaled.shape[1]), np.ones(scaled.shape[1])],
                atol=1e-9,
            )


def test_any_numeric_column_of_the_table_can_be_scaled(opened):
    values = np.arange(len(opened)) % 7
    more = MaskDatabase(opened.table.assign(my_property=values), opened.spec, opened.bits)
    scaling = fit_scaling(more, ["my_property", "sparsity", "clustering"])
    assert scaling.columns == ("my_property", "sparsity", "clustering")
    np.testing.assert_allclose(scaling.transform(more.values(scaling.columns))[:, 0], values / 6)
    assert nearest([[6, 0.3, 0.2]], more, scaling, "l2").row.shape == (1,)
    with pytest.raises(InvalidInput, match=r"'my_property'.*name one or more of .*clustering"):
        fit_scaling(opened, ["my_property", "clustering"])
    with pytest.raises(InvalidInput, match="name one or more"):  # a property, but not of this table
        fit_scaling(synthetic(clustering=[0.0, 1.0]), ["s_metric"])


def test_unknown_names_are_refused(opened):
    with pytest.raises(InvalidInput, match="no scaling 'rank'"):
        fit_scaling(opened, ["clustering"], "rank")
    with pytest.raises(InvalidInput, match="no metric 'angular'"):
        nearest([0.5], opened, fit_scaling(opened, ["clustering"]), "angular")
    # "family" is a column of the table, but no property
    for columns in (["clusterin"], [], "clustering", ["family"]):
        with pytest.raises(InvalidInput, match="name one or more"):
            fit_scaling(opened, columns)
    with pytest.raises(DatabaseError, match="empty"):
        fit_scaling(synthetic(clustering=[]), ["clustering"])


def test_a_property_of_ones_own_is_a_column_like_any_other(tmp_path):
    masks_built = build(DatabaseSpec((0.5,), 6, n=5), tmp_path / "x", workers=1)
    corner = masks_built.with_property("corner", lambda mask: mask[0, 1] + 2.5)
    assert corner.table.corner.tolist() == [3.5 if m[0, 1] else 2.5 for m in masks_built.masks()]
    assert "corner" not in masks_built.table, "the database that was opened stays as it was"
    row = int(corner.table.corner.argmax())
    assert nearest(
        [3.5], corner.take([row]), fit_scaling(corner, ["corner"]), "l1"
    ).similarity.tolist() == [0.0]
    partly = corner.with_property("partly", lambda mask: float("nan") if mask[0, 1] else mask.sum())
    found = nearest([0.0], partly, fit_scaling(partly, ["partly"], "none"), "l1")
    assert found.left_out == corner.table.corner.eq(3.5).sum()
    with pytest.raises(InvalidInput, match="cannot be named 'corner'"):
        corner.with_property("corner", np.sum)
    for wrong in (
        lambda mask: "high",
        lambda mask: mask,
        lambda mask: None,
        lambda mask: float("inf"),
    ):
        with pytest.raises(
            InvalidInput, match=r"(?s)'wrong' gives .* for mask s0.5-00000; return a number"
        ):
            corner.with_property("wrong", wrong)
