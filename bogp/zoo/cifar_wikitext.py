"""CIFAR-10 and WikiText-2 as checked arrays and texts, read from ``BOGP_DATA_DIR``, else the cache,
else downloaded where there is an official file.

- ``cifar10-12k``: 10,000 training and 2,000 test images of CIFAR-10, balanced; file:
  ``cifar10-12k.npz``; it has no download
- ``cifar10``: all 50,000 and 10,000 (Krizhevsky 2009); file: ``cifar-10-binary.tar.gz``, of which
  nothing is unpickled
- ``wikitext-2``: validation and test articles (Merity et al. 2016), the latter for testing; the
  training articles are not needed; files: ``wikitext-2/valid.txt`` and ``test.txt``, or the
  official ``wikitext-2-v1.zip``

What fails its check is an error, never a reason to use something else.
"""

import hashlib
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bogp import paths
from bogp.checks import is_one_of, refuse
from bogp.errors import DatasetError

_CIFAR_ARRAYS = {  # of the subset: shape and sha256 of the array's bytes
    "train_images": (
        (10_000, 32, 32, 3),
        "08c696905b7673513ca9b274635c2bb270cab11761ee25ecb19ada3fecb70662",
    ),
    "train_labels": ((10_000,), "55fbc1ada581df95b032efe57c6061f00e3d5d8f5079219e44328a9f1097e60e"),
    "test_images": (
        (2_000, 32, 32, 3),
        "1db776dcb7c8aab0cb46d1d13c9f2c9b0d339e073394901bd0cedd0c4cc19323",
    ),
    "test_labels": ((2_000,), "3e1c0506c809d0ace5e9f0a95545bbcbdd52fac4a0290021a106ea43e7216b55"),
}
_CIFAR = (
    "https://www.cs.toronto.edu/~kriz/",
    "cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
)  # md5 as its author's page gives it
_TEXTS = {
    "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
}
_WIKITEXT = (
    "https://s3.amazonaws.com/research.metamind.io/wikitext/",
    "wikitext-2-v1.zip",
    "542ccefacc6c27f945fb54453812b3cd",
)  # md5 as in torchtext


@dataclass(frozen=True)
class Images:
    """Images (N, 32, 32, 3) uint8 and labels (N,) uint8 in 0..9, for training and for testing."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def cifar10(name: str = "cifar10-12k") -> Images:
    """CIFAR-10, whole or the named subset, verified.

    Raises:
        DatasetError: an unknown name, or a file that is missing everywhere or fails its check.
    """
    refuse(
        not is_one_of(name, ("cifar10-12k", "cifar10")),
        f"There is no data set {name!r} of images; there are: cifar10-12k, cifar10.",
        DatasetError,
    )
    if name == "cifar10":
        return _official(_archive(*_CIFAR))
    return _subset(_found(f"{name}.npz") or _missing(f"{name}.npz"))


def wikitext2() -> dict[str, str]:
    """The texts ``valid`` and ``test`` of WikiText-2, verified.

    Raises:
        DatasetError: they are missing everywhere, or fail their check.
    """
    found = {name: _found(f"wikitext-2/{name}") for name in _TEXTS}
    if all(found.values()):
        contents = {name: path.read_bytes() for name, path in found.items() if path}
    else:
        with zipfile.ZipFile(_archive(*_WIKITEXT)) as unpacked:
            contents = {
                name: unpacked.read(f"wikitext-2/wiki.{name.replace('.txt', '.tokens')}")
                for name in _TEXTS
            }
    for name, content in contents.items():
        refuse(
            hashlib.sha256(content).hexdigest() != _TEXTS[name],
            f"{name} of wikitext-2 ({found[name] or _WIKITEXT[1]}) is not the official "
            "text; replace it.",
            DatasetError,
        )
    return {
        name.removesuffix(".txt"): content.decode("utf-8") for name, content in contents.items()
    }


def check(name: str) -> dict[str, Path | None]:
    """Find the files of a data set and verify their content; nothing is downloaded.

    Args:
        name: ``cifar10-12k`` or ``wikitext-2``.

    Returns:
        Each file's name and where it lies; None where it is not there.

    Raises:
        DatasetError: an unknown name, or a file that is damaged.
    """
    files: dict[str, tuple[str, ...]] = {
        "cifar10-12k": ("cifar10-12k.npz",),
        "wikitext-2": tuple(f"wikitext-2/{text}" for text in _TEXTS),
    }
    refuse(
        not is_one_of(name, files),
        f"There is no data set {name!r} to check; there are: cifar10-12k, wikitext-2.",
        DatasetError,
    )
    found = {file: _found(file) for file in files[name]}
    if all(found.values()):
        cifar10(name) if name == "cifar10-12k" else wikitext2()
    return found


def _subset(path: Path) -> Images:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in _CIFAR_ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} cannot be read as the subset of CIFAR-10 ({error}); replace it."
        ) from None
    for name, (shape, sha256) in _CIFAR_ARRAYS.items():
        refuse(
            held[name].shape != shape
            or hashlib.sha256(np.ascontiguousarray(held[name]).tobytes()).hexdigest() != sha256,
            f"{name} in {path} is not what cifar10-12k holds; replace the file.",
            DatasetError,
        )
    return Images(**held)


def _official(path: Path) -> Images:
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    with tarfile.open(path) as archive:
        members = [archive.extractfile(f"cifar-10-batches-bin/{name}") for name in names]
        tables = [np.frombuffer(m.read(), np.uint8).reshape(-1, 3073) for m in members if m]
    train, test = np.concatenate(tables[:-1]), tables[-1]  # rows of a label, then the pixels
    images = (t[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy() for t in (train, test))
    return Images(next(images), train[:, 0].copy(), next(images), test[:, 0].copy())


def _found(name: str) -> Path | None:
    folders = (paths.data_dir(), paths.cache_dir() / "structural")
    return next((f / name for f in folders if f and (f / name).exists()), None)


def _missing(name: str) -> Path:
    raise DatasetError(
        f"{name} is not in BOGP_DATA_DIR ({paths.data_dir() or 'not set'}). Put it into a "
        "folder and set BOGP_DATA_DIR to that; or use cifar10."
    )


def _archive(address: str, name: str, md5: str) -> Path:
    """Where the official file lies, downloaded into the cache if need be; one that fails its check
    is never kept there.
    """
    import pooch

    own, cache = paths.data_dir(), paths.cache_dir() / "structural"
    if own and (own / name).exists():
        if (found := pooch.file_hash(str(own / name), alg="md5")) != md5:
            raise DatasetError(
                f"{own / name} has md5 {found[:12]}..., expected {md5[:12]}...; replace it by "
                "the official file."
            )
        return own / name
    try:
        return Path(
            pooch.retrieve(
                f"{address}{name}",
                f"md5:{md5}",
                name,
                cache,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
            )
        )
    except Exception as error:  # no download, or another file: the way out is the same
        raise DatasetError(
            f"{name} is neither in BOGP_DATA_DIR ({own or 'not set'}) nor in the cache "
            f"({cache}), and could not be downloaded from {address} "
            f"({str(error)[:160]}). Put it into a folder and set BOGP_DATA_DIR to that."
        ) from None
