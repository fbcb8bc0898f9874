"""Readers of CIFAR-10 and WikiText-2: official archives, crafted small, and files that are missing or damaged."""

import hashlib
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from bogp.errors import DatasetError
from bogp.structural import data


@pytest.fixture
def folder(home, monkeypatch):
    place = home / "mine"
    place.mkdir()
    monkeypatch.setenv("BOGP_DATA_DIR", str(place))
    monkeypatch.setattr(data, "_CIFAR_ADDRESS", ())  # nothing is downloaded
    monkeypatch.setattr(data, "_TEXT_ADDRESS", ())
    return place


def test_missing_files_say_where_to_put_them(folder):
    for read in (lambda: data.cifar10("cifar10-12k"), lambda: data.cifar10("cifar10"), data.wikitext2):
        with pytest.raises(DatasetError, match="BOGP_DATA_DIR"):
            read()
    with pytest.raises(DatasetError, match="cifar10-12k"):
        data.cifar10("cifar100")


def test_the_official_archive_of_images(folder, monkeypatch):
    rng = np.random.default_rng(0)
    rows = {f"data_batch_{i}.bin": rng.integers(0, 256, (2, 3073), dtype=np.uint8) for i in range(1, 6)}
    rows["test_batch.bin"] = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, table in rows.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = table.size
            archive.addfile(member, io.BytesIO(table.tobytes()))
    with pytest.raises(DatasetError, match="md5"):
        data.cifar10("cifar10")
    monkeypatch.setattr(data, "_CIFAR_MD5", hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
    images = data.cifar10("cifar10")
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
        for name in data._CIFAR_ARRAYS:
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
            archive.writestr(f"{name}.npy", header.getvalue() + pickle.dumps([Trap()]))
    with pytest.raises(DatasetError, match="replace it"):
        data.cifar10("cifar10-12k")
    assert not trap.exists()
    path.write_bytes(b"PK damaged")
    with pytest.raises(DatasetError, match="cannot be read"):
        data.cifar10("cifar10-12k")


def test_a_subset_of_other_images_is_refused(folder, monkeypatch):
    arrays = {
        "train_images": np.zeros((4, 32, 32, 3), np.uint8), "train_labels": np.arange(4, dtype=np.uint8),
        "test_images": np.ones((2, 32, 32, 3), np.uint8), "test_labels": np.arange(2, dtype=np.uint8),
    }  # fmt: skip
    np.savez(folder / "cifar10-12k.npz", **arrays)
    with pytest.raises(DatasetError, match="not what cifar10-12k holds"):
        data.cifar10("cifar10-12k")
    monkeypatch.setattr(data, "_CIFAR_ARRAYS", {k: (a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for k, a in arrays.items()})
    np.testing.assert_array_equal(data.cifar10("cifar10-12k").test_images, arrays["test_images"])
    arrays["train_labels"][0] = 9
    np.savez(folder / "cifar10-12k.npz", **arrays)
    with pytest.raises(DatasetError, match="train_labels"):
        data.cifar10("cifar10-12k")


TEXTS = {"valid": " = One = \n\n Grün text . \n", "test": " = Two = \n\n other text . \n"}


def test_the_official_archive_of_texts_and_the_plain_files(folder, monkeypatch):
    monkeypatch.setattr(data, "_TEXTS", {f"{n}.txt": hashlib.sha256(t.encode()).hexdigest() for n, t in TEXTS.items()})
    with zipfile.ZipFile(folder / "wikitext-2-v1.zip", "w") as archive:
        for name, text in TEXTS.items():
            archive.writestr(f"wikitext-2/wiki.{name}.tokens", text.encode())
    assert data.wikitext2() == TEXTS
    (folder / "wikitext-2").mkdir()
    for name, text in TEXTS.items():
        (folder / "wikitext-2" / f"{name}.txt").write_bytes(text.encode())
    (folder / "wikitext-2-v1.zip").unlink()
    assert data.wikitext2() == TEXTS
    (folder / "wikitext-2" / "test.txt").write_text("other")
    with pytest.raises(DatasetError, match=r"test\.txt"):
        data.wikitext2()


@pytest.mark.parametrize("content", [b"no archive", None])
def test_a_damaged_archive_of_texts_is_refused(folder, content):
    path = folder / "wikitext-2-v1.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("something/else", b"")
    else:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match="not the archive of WikiText-2"):
        data.wikitext2()
