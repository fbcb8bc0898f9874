"""Readers of CIFAR-10 and WikiText-2: official archives, crafted small, and files that are missing
or damaged.
"""

import hashlib
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pooch
import pytest

from bogp import paths
from bogp.errors import DatasetError
from bogp.zoo import cifar_wikitext


def no_network(url, path, _):
    raise OSError("no network")


def md5_of(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def folder(home, monkeypatch):
    place = home / "mine"
    place.mkdir()
    monkeypatch.setenv("BOGP_DATA_DIR", str(place))
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **_: no_network)
    return place


def test_missing_files_say_where_to_put_them(folder):
    for read in (
        lambda: cifar_wikitext.cifar10("cifar10-12k"),
        lambda: cifar_wikitext.cifar10("cifar10"),
        cifar_wikitext.wikitext2,
    ):
        with pytest.raises(DatasetError, match="BOGP_DATA_DIR"):
            read()
    with pytest.raises(DatasetError, match="cifar10-12k"):
        cifar_wikitext.cifar10("cifar100")


def test_the_official_archive_of_images(folder, monkeypatch):
    rng = np.random.default_rng(0)
    rows = {
        f"data_batch_{i}.bin": rng.integers(0, 256, (2, 3073), dtype=np.uint8) for i in range(1, 6)
    }
    rows["test_batch.bin"] = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, table in rows.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = table.size
            archive.addfile(member, io.BytesIO(table.tobytes()))
    with pytest.raises(DatasetError, match="md5"):
        cifar_wikitext.cifar10("cifar10")
    monkeypatch.setattr(
        cifar_wikitext, "_CIFAR", (*cifar_wikitext._CIFAR[:2], md5_of(path.read_bytes()))
    )
    images = cifar_wikitext.cifar10("cifar10")
    assert images.train_images.shape == (10, 32, 32, 3)
    assert images.test_labels.tolist() == rows["test_batch.bin"][:, 0].tolist()
    for channel in range(3):
        red = rows["data_batch_2.bin"][1, 1 + 1024 * channel :][:1024].reshape(32, 32)
        np.testing.assert_array_equal(images.train_images[3, :, :, channel], red)


def test_a_damaged_or_pickled_subset_is_refused_and_nothing_is_unpickled(folder, tmp_path):
    path, trap = folder / "cifar10-12k.npz", tmp_path / "unpickled"

    class Trap:
        def __reduce__(self):
            return (trap.touch, ())

    with zipfile.ZipFile(path, "w") as archive:
        for name in cifar_wikitext._CIFAR_ARRAYS:
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|O", "fortran_order": False, "shape": (1,)}
            )
            archive.writestr(f"{name}.npy", header.getvalue() + pickle.dumps([Trap()]))
    with pytest.raises(DatasetError, match="replace it"):
        cifar_wikitext.cifar10("cifar10-12k")
    assert not trap.exists()
    path.write_bytes(b"PK damaged")
    with pytest.raises(DatasetError, match="cannot be read"):
        cifar_wikitext.cifar10("cifar10-12k")


def test_a_subset_of_other_images_is_refused(folder, monkeypatch):
    arrays = {
        "train_images": np.zeros((4, 32, 32, 3), np.uint8),
        "train_labels": np.arange(4, dtype=np.uint8),
        "test_images": np.ones((2, 32, 32, 3), np.uint8),
        "test_labels": np.arange(2, dtype=np.uint8),
    }
    np.savez(folder / "cifar10-12k.npz", **arrays)
    with pytest.raises(DatasetError, match="not what cifar10-12k holds"):
        cifar_wikitext.cifar10("cifar10-12k")
    monkeypatch.setattr(
        cifar_wikitext,
        "_CIFAR_ARRAYS",
        {k: (a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for k, a in arrays.items()},
    )
    np.testing.assert_array_equal(
        cifar_wikitext.cifar10("cifar10-12k").test_images, arrays["test_images"]
    )
    arrays["train_labels"][0] = 9
    np.savez(folder / "cifar10-12k.npz", **arrays)
    with pytest.raises(DatasetError, match="train_labels"):
        cifar_wikitext.cifar10("cifar10-12k")


TEXTS = {"valid": " = One = \n\n Grün text . \n", "test": " = Two = \n\n other text . \n"}


def test_the_official_archive_of_texts_and_the_plain_files(folder, monkeypatch):
    monkeypatch.setattr(
        cifar_wikitext,
        "_TEXTS",
        {f"{n}.txt": hashlib.sha256(t.encode()).hexdigest() for n, t in TEXTS.items()},
    )
    with zipfile.ZipFile(folder / "wikitext-2-v1.zip", "w") as archive:
        for name, text in TEXTS.items():
            archive.writestr(f"wikitext-2/wiki.{name}.tokens", text.encode())
    with pytest.raises(DatasetError, match="md5"):
        cifar_wikitext.wikitext2()
    monkeypatch.setattr(
        cifar_wikitext,
        "_WIKITEXT",
        (*cifar_wikitext._WIKITEXT[:2], md5_of((folder / "wikitext-2-v1.zip").read_bytes())),
    )
    assert cifar_wikitext.wikitext2() == TEXTS
    (folder / "wikitext-2").mkdir()
    for name, text in TEXTS.items():
        (folder / "wikitext-2" / f"{name}.txt").write_bytes(text.encode())
    (folder / "wikitext-2-v1.zip").unlink()
    assert cifar_wikitext.wikitext2() == TEXTS
    (folder / "wikitext-2" / "test.txt").write_text("other")
    with pytest.raises(DatasetError, match=r"test\.txt"):
        cifar_wikitext.wikitext2()


def test_a_download_is_kept_only_if_it_is_the_official_file(folder, monkeypatch):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in TEXTS.items():
            archive.writestr(f"wikitext-2/wiki.{name}.tokens", text.encode())
    monkeypatch.setattr(
        cifar_wikitext,
        "_TEXTS",
        {f"{n}.txt": hashlib.sha256(t.encode()).hexdigest() for n, t in TEXTS.items()},
    )
    monkeypatch.setattr(
        cifar_wikitext, "_WIKITEXT", (*cifar_wikitext._WIKITEXT[:2], md5_of(content.getvalue()))
    )
    sent = []

    def download(url, path, _):
        sent.append(url)
        Path(path).write_bytes(served)

    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **_: download)
    served = b"a page that says sorry"
    with pytest.raises(DatasetError, match="could not be downloaded"):
        cifar_wikitext.wikitext2()
    assert not [p for p in (paths.cache_dir() / "structural").iterdir() if p.is_file()]
    served = content.getvalue()
    assert cifar_wikitext.wikitext2() == TEXTS
    assert cifar_wikitext.wikitext2() == TEXTS
    assert len(sent) == 2, "the second reading is from the cache"
