"""What one set of dependencies makes of the same scenarios, as JSON: `rollouts_as_json.py SEED RUNS SCENARIO…`.

Run by `test_dependency_bounds.py` in environments of its own, so it imports nothing of the tests'.
"""

import hashlib
import json
import sys

from sim.scenario import load_one
from sim.simulate import simulate


def made(path: str, seed: int, runs: int) -> dict:
    """What was read (as a hash) and, for each rollout, what came of it."""
    scenario = load_one(path)
    results = [simulate(scenario, seed=seed, replication=n) for n in range(runs)]
    return {
        "read": hashlib.sha256(
            repr((scenario.deployments, scenario.services, scenario.load)).encode()
        ).hexdigest(),
        "failed": [result.n_failed for result in results],
        "requests": [result.n_requests for result in results],
        "rollout_s": [result.rollout_s for result in results],
    }


if __name__ == "__main__":
    seed, runs, *paths = sys.argv[1:]
    print(json.dumps([made(path, int(seed), int(runs)) for path in paths]))
