"""A paced client for a while: latency quantiles as JSON. Usage: PORT SECONDS."""

import json
import sys
import time
from collections import Counter

from validation.calibration.quantiles import summary
from validation.calibration.stops import PacedClient


def main() -> None:
    client = PacedClient(int(sys.argv[1]))
    client.start()
    time.sleep(float(sys.argv[2]))
    client.going = False
    client.join()
    figures = {name: round(value, 6) for name, value in summary(client.latencies_s).items()}
    kinds = Counter(f"{phase} {seen}" for _, phase, seen in client.seen)
    print(json.dumps({"requests": client.sent, "failed": len(client.seen), "kinds": kinds, **figures}))


if __name__ == "__main__":
    main()
