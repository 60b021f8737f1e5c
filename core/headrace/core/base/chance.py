"""Chance: one small specified generator, xoshiro256**, seeded through splitmix64.

Both engines use this algorithm, so that the same seed gives the same choices in either. It is not for secrets:
nonces and keys come from `secrets`.

Source: the published algorithms of Blackman and Vigna, stated here from their definition.
"""

import secrets
from collections.abc import Sequence
from typing import Final

_MASK: Final = (1 << 64) - 1
_BASE62: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _rotated(value: int, count: int) -> int:
    return ((value << count) | (value >> (64 - count))) & _MASK


def fresh_seed() -> int:
    """Give a seed that nobody can guess, for a server that was given none."""
    return secrets.randbits(64)


class Chance:
    """A stream of random numbers, fully determined by its seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        state: list[int] = []
        value = seed & _MASK
        for _ in range(4):
            value = (value + 0x9E3779B97F4A7C15) & _MASK
            mixed = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
            state.append(mixed ^ (mixed >> 31))
        self._state = state

    @property
    def state(self) -> Sequence[int]:
        """The generator's four words. The compiled engine draws from them in C, and sets them to where it came."""
        return self._state

    @state.setter
    def state(self, words: Sequence[int]) -> None:
        self._state = list(words)

    def bits64(self) -> int:
        """Give the next 64 bits as an unsigned integer."""
        s0, s1, s2, s3 = self._state
        result = (_rotated((s1 * 5) & _MASK, 7) * 9) & _MASK
        shifted = (s1 << 17) & _MASK
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= shifted
        self._state = [s0, s1, s2, _rotated(s3, 45)]
        return result

    def below(self, bound: int) -> int:
        """Give an integer from 0 to `bound - 1`; `bound` is at most 2**32.

        Multiply-and-shift of the upper 32 bits: the bias is below 2**-32 and it needs no loop.
        """
        return ((self.bits64() >> 32) * bound) >> 32

    def base62(self, size: int) -> bytes:
        """Give `size` characters of 0-9, A-Z and a-z."""
        return bytes(_BASE62[self.below(62)] for _ in range(size))

    def nuid(self) -> str:
        """Give a 22-character unique identifier, as NATS uses them for advisories and pins."""
        return self.base62(22).decode()
