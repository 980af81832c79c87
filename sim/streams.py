"""Random streams, found by name and never by the order in which they are made."""

import hashlib
from typing import Any, cast

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike

from sim.errors import ModelBug


class Streams:
    """Independent streams; draws depend on (seed, replication, name), not on who else exists.

    Two points of a sweep therefore meet the same arrivals and the same delays (common random numbers),
    and a new actor changes nobody else's draws.
    """

    def __init__(self, seed: int, replication: int = 0) -> None:
        self.seed = seed
        self.replication = replication
        self._taken: set[str] = set()

    def take(self, name: str) -> np.random.Generator:
        """The stream called *name*, for example ``kubelet/pod-3/exit``; each has one owner.

        Raises
        ------
        ModelBug
            The stream has an owner already.
        """
        if name in self._taken:
            raise ModelBug(f"random stream {name!r} has an owner already")
        self._taken.add(name)
        seed = _Seed(f"{self.seed}/{self.replication}/{name}")
        return np.random.Generator(np.random.PCG64(cast("np.random.SeedSequence", seed)))


class _Seed(ISeedSequence):
    """256 bits of SHA-256: as good as numpy's own mixing, which takes eight times as long as all else here."""

    def __init__(self, text: str) -> None:
        self._digest = hashlib.sha256(text.encode()).digest()

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint32) -> np.ndarray[Any, Any]:
        state = np.frombuffer(self._digest, dtype=np.dtype(dtype).newbyteorder("<"))
        assert len(state) == n_words
        return state
