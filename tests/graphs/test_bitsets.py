import numpy as np
import pytest

from bogp.graphs import bitsets, families


@pytest.mark.parametrize("n", [1, 5, 8, 63, 64, 65, 128, 130])
def test_packed_rows_hold_the_neighbours_and_no_self_loops(n):
    rng = np.random.default_rng(n)
    batch = np.stack([families.bernoulli(n, 0.5, rng) for _ in range(3)])
    rows = bitsets.pack(batch.view(np.uint8))
    assert rows.shape == (3, n, -(-n // 64))
    bits = (rows[..., None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    expected = np.zeros((3, n, rows.shape[2] * 64), dtype=bool)
    expected[..., :n] = batch & ~np.eye(n, dtype=bool)
    np.testing.assert_array_equal(bits.reshape(expected.shape), expected)
    np.testing.assert_array_equal(bitsets.sizes(rows), expected.sum(2))


def test_ones_are_counted_and_the_lowest_is_found_in_any_word():
    rng = np.random.default_rng(0)
    words = [1 << k for k in range(64)] + [
        2**64 - 1,
        0,
        *(int(w) for w in rng.integers(0, 2**64, 200, dtype=np.uint64)),
    ]
    for word in words:
        assert bitsets.popcount(np.uint64(word)) == word.bit_count()
        assert bitsets.lowest(np.uint64(word)) == ((word & -word).bit_length() - 1 if word else 64)


@pytest.mark.parametrize("n", [1, 5, 63, 64, 65, 130, 256])
def test_a_mask_is_symmetric_until_one_bit_is_turned(n):
    rng = np.random.default_rng(n)
    half = rng.random((n, n)) < 0.4
    mask = half | half.T
    batch = np.stack([mask] * 6)
    places = [(0, n - 1), (n - 1, 0), (n // 2, 0), (n - 1, n // 2)]
    for at, (i, j) in enumerate(places, start=1):
        batch[at, i, j] ^= True
    expected = [True, *(i == j for i, j in places), True]
    assert bitsets.symmetric(batch).tolist() == expected
    np.testing.assert_array_equal(
        bitsets.symmetric(batch), (batch == batch.transpose(0, 2, 1)).all(axis=(1, 2))
    )
