"""Random streams, found by name and never by the order in which they are made."""

import hashlib

import numpy as np

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
        words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u4")
        key = (self.replication, *(int(word) for word in words))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
