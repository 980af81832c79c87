"""A test's seed: it depends on the test and on nothing else."""

import hashlib
import os

SALT = os.environ.get("ROLLSIM_TEST_SALT", "")
"""Another salt gives every test other draws; all must still pass."""


def seed_of(nodeid: str) -> int:
    """The seed of one test: a hash of its id and the salt."""
    return int.from_bytes(hashlib.sha256(f"{nodeid} {SALT}".encode()).digest()[:4])
