"""Prints every measured step with n and quantiles. Usage: LOG.csv …"""

import sys
from pathlib import Path

from validation.calibration.milestones import columns, read_log, starts, stops
from validation.calibration.quantiles import summary


def main() -> None:
    logs = [read_log(Path(name)) for name in sys.argv[1:]]
    for title, of in (("start", starts), ("stop", stops)):
        rows = [row for log in logs for row in of(log)]
        for name, samples in columns(rows).items():
            if samples:
                s = summary(samples)
                figures = "  ".join(
                    f"{key} {s[key] * 1e3:8.1f}" for key in ("p5", "p50", "p95", "mean", "max")
                )
                print(f"{title:6}{name:24} n={s['n']:3d}  {figures} ms")


if __name__ == "__main__":
    main()
