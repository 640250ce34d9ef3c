"""Texts to vectors without a model: signed feature hashing of words to 1536 dimensions.

Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009. Each word adds +1 or -1 at eight
positions; the sum is divided by its length and rounded to multiples of 2**-11.

The rounding makes arithmetic exact: products of two entries are multiples of 2**-22 and their sums stay below 2, which
fits the 24-bit significand of a 4-byte float. So pgvector (4-byte sums, in whatever order the compiler chose) and
numpy (8-byte sums) find the same dot products to the last bit, and rankings and thresholds never differ.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 1536
_POSITIONS = 8
_STEP = 2.0**-11
_WORD = re.compile(r"[^\W_]+")
_NOT_COUNTED = (
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its me my no "
    "not of on or our so that the their them then there they this to up us was we were what when where which who why "
    "will with would you your"
)
_STOP_WORDS = frozenset(_NOT_COUNTED.split())

FloatArray = NDArray[np.float32]


def tokens(text: str) -> list[str]:
    """The words that count, lower-case, in order.

    >>> tokens("How do I reset the VPN-token 4711?")
    ['reset', 'vpn', 'token', '4711']
    """
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


@lru_cache(maxsize=200_000)
def _features(token: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=4 * _POSITIONS).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, len(digest), 4)]
    return tuple((w >> 1) % DIMENSIONS for w in words), tuple(1.0 if w & 1 else -1.0 for w in words)


def embed(texts: Sequence[str]) -> FloatArray:
    """One row of 1536 per text; a text without words gives a row of zeros."""
    features = [[_features(token) for token in tokens(text)] for text in texts]
    counts = np.fromiter((len(f) * _POSITIONS for f in features), np.int64, len(features))
    size = int(counts.sum())
    columns = np.fromiter(chain.from_iterable(f[0] for row in features for f in row), np.int64, size)
    signs = np.fromiter(chain.from_iterable(f[1] for row in features for f in row), np.float64, size)
    rows = np.repeat(np.arange(len(features), dtype=np.int64), counts)
    sums = np.bincount(rows * DIMENSIONS + columns, weights=signs, minlength=len(features) * DIMENSIONS)
    # Without any word bincount counts integers.
    return normalised(sums.astype(np.float64).reshape(len(features), DIMENSIONS))


def normalised(vectors: NDArray[np.float64]) -> FloatArray:
    """Rows of length one, rounded to multiples of 2**-11 (which changes the length by less than 1 %)."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    rounded: FloatArray = (np.rint(unit / _STEP) * _STEP).astype(np.float32)
    return rounded


def cosine_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """What pgvector's `<=>` returns, computed in the same steps (vector.c, cosine_distance)."""
    similarity = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return 1.0 - max(-1.0, min(1.0, similarity))
