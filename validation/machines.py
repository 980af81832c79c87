"""The machines on which runs were kept, and the timing profile that each run is held against.

Another machine is another cluster. The second one starts a pod's container 17 % later than the first and takes half as
long again for a write (calibration/FINDINGS.md); a rollout, which waits for the kubelet's rhythm of one second, may
take half as long again there. The runs of the morning of 2026-11-30 (drawn-3) come from a third one that nobody
measured: its kernel is the first's, and it was put to the second after its runs had shown the second's speed.
"""

from collections.abc import Iterable
from typing import Final

from validation.compare import Compared, match
from validation.forecast import Forecast
from validation.observations import Observation

FIRST, SECOND = "kind-1.34", "kind-1.34-2026-11-30"
SINCE: Final = (("2026-11-30", SECOND), ("", FIRST))
"""(day of the first run, profile), the newest machine first."""
PROFILES: Final = tuple(profile for _, profile in SINCE)


def profile_of(run: Observation) -> str:
    """The profile that *run* is held against."""
    return next(profile for day, profile in SINCE if run.date >= day)


def made_there(runs: Iterable[Observation], timing: str) -> list[Observation]:
    """Those made on the machine where *timing* was measured; all, if it was measured on none of these."""
    return [run for run in runs if timing not in PROFILES or profile_of(run) == timing]


def match_there(forecasts: Iterable[Forecast], runs: Iterable[Observation]) -> list[Compared]:
    """Each forecast with the comparable runs of the machine that its latencies were measured on."""
    kept = list(runs)
    return [each for forecast in forecasts for each in match([forecast], made_there(kept, forecast.timing))]
