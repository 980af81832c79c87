"""What a dying pod's address answered, in order: from the probes and log of `vanishing`. Usage: LOG.csv"""

import sys
from pathlib import Path

import pandas as pd

from validation.calibration.milestones import read_log
from validation.calibration.quantiles import summary


def windows(log_path: Path) -> pd.DataFrame:
    """One row a run and place: when refusals began and ended, when silence began, against the kernel's times. [s]"""
    log = read_log(log_path)
    probes = pd.read_csv(log_path.with_name(log_path.stem + "-probes.csv.gz"))
    links = {e.subject: e.detail.split(" dev ")[1].split()[0] for e in log if e.kind == "route"}
    rows = []
    for (run, uid, place), seen in probes.groupby(["run", "uid", "from"]):
        sent = next(e for e in log if e.kind == "delete.sent" and e.subject == uid)
        term_s = next(
            e.at_s for e in log if e.kind == "signal" and e.subject == uid and e.detail.startswith("15 nginx")
        )
        exits = [
            e.at_s
            for e in log
            if e.kind == "process.exit" and term_s < e.at_s < term_s + 1 and e.detail.startswith("nginx")
        ]
        if len(exits) < 2:
            continue
        deleted_s = next(e.at_s for e in log if e.kind == "pod.deleted" and e.subject == uid)
        slice_s = next(
            (e.at_s for e in log if e.kind == "slice.endpoint" and e.subject == uid and "t" in e.detail),
            float("nan"),
        )
        device = links.get(sent.detail, "?")
        gone_s = min(
            (e.at_s for e in log if e.kind.startswith("link") and e.subject == device and e.at_s > term_s),
            default=float("nan"),
        )
        commits = [e.at_s for e in log if e.kind == "rules.commit" and e.at_s > slice_s]
        by = {r: seen[seen.result == r].at_s for r in ("ok", "ECONNREFUSED", "silent")}
        late = seen[(seen.result == "ok") & (seen.for_s > 0.15)]
        rows.append({
            "run": run, "from": place, "deleted_to_signal": term_s - deleted_s, "signal_to_exit": exits[1] - term_s,
            "exit_to_gone": gone_s - exits[1], "deleted_to_slice": slice_s - deleted_s,
            "slice_to_rules": commits[1] - slice_s if len(commits) > 1 else float("nan"),
            "signal_to_first_refused": by["ECONNREFUSED"].min() - term_s,
            "exit_to_first_refused": by["ECONNREFUSED"].min() - exits[0],
            "exit_to_last_refused": by["ECONNREFUSED"].max() - exits[1],
            "exit_to_first_silent": by["silent"].min() - exits[1],
            "gone_to_first_silent": by["silent"].min() - gone_s,
            "refused": len(by["ECONNREFUSED"]), "silent": len(by["silent"]), "ok": len(by["ok"]), "late": len(late),
            "other": len(seen) - sum(map(len, by.values())), "probes": len(seen),
            "rules_to_last_bad": seen[seen.result != "ok"].at_s.max() - commits[1] if commits[1:] else float("nan"),
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    table = windows(Path(sys.argv[1]))
    for place, rows in table.groupby("from"):
        for name in rows.columns[2:]:
            values = rows[name].dropna()
            if len(values):
                print(f"{place:8}{name:26}", {k: round(v, 4) for k, v in summary(list(values)).items()})


if __name__ == "__main__":
    main()
