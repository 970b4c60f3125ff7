"""Randomness that is computed point by point: a shuffle of any size needs no memory, and nothing has a state."""

import numpy as np
import numpy.typing as npt

ROUNDS = 4

U64 = npt.NDArray[np.uint64]


def epoch_key(seed: int, epoch: npt.NDArray[np.integer]) -> U64:
    """The key of each epoch of a seeded shuffle, uint64 of the shape of ``epoch``."""
    return _mix(epoch.astype(np.uint64) + _mix(np.array([seed], np.uint64)))


def permute(index: npt.NDArray[np.integer], n: int, key: U64) -> npt.NDArray[np.int64]:
    """Where the permutations of [0, n) with given keys send given points.

    A Feistel network (Luby and Rackoff 1988) permutes the smallest [0, 2 ** bits) that holds [0, n); a result outside
    [0, n) is sent on until it is inside (cycle walking), which happens less than once a point on average.

    Args:
        index: points in [0, n), of any shape.
        n: size, at least 1.
        key: uint64 keys that broadcast to ``index``.

    Returns:
        int64 of the shape of ``index``; for each key a bijection of [0, n).
    """
    bits = (n - 1).bit_length()
    points = index.astype(np.uint64).ravel()
    keys = np.broadcast_to(key, index.shape).ravel()
    result = _feistel(points, keys, bits)
    outside = np.flatnonzero(result >= n)
    while len(outside):
        result[outside] = _feistel(result[outside], keys[outside], bits)
        outside = outside[result[outside] >= n]
    return result.astype(np.int64).reshape(index.shape)


def chance(index: npt.NDArray[np.integer], key: U64) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each point and key, uniform and the same at every call; shapes broadcast."""
    return (_mix(index.astype(np.uint64) ^ key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _feistel(points: U64, keys: U64, bits: int) -> U64:
    """A keyed bijection of [0, 2 ** bits): each half in turn is changed by a function of the other."""
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << (bits // 2)) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    low, high = points & low_mask, points >> low_bits
    for number in range(ROUNDS):
        round_key = keys + np.uint64(number << 56)
        high ^= _mix(round_key ^ low) & high_mask
        low ^= _mix(~round_key ^ high) & low_mask
    return high << low_bits | low


def _mix(x: U64) -> U64:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of x changes every bit of the result."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
