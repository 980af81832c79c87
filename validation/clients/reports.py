"""What ab and wrk print at the end, read into numbers. Each reason stays apart."""

import re
from dataclasses import dataclass, field

AB_ABORTED = re.compile(r"Total of (\d+) requests completed")
AB_ERROR = re.compile(r"(?:apr_\w+(?:\(\))?: .*\(\d+\)|^ab: .*|Test aborted.*)", re.MULTILINE)
AB_REASONS = re.compile(r"\(Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)\)")
WRK_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
WRK_TOTAL = re.compile(r"(\d+) requests in ([\d.]+)(ms|s|m|h)")
WRK_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class UnreadableReport(Exception):
    """The text is no report of that tool."""


@dataclass(frozen=True)
class Report:
    """The tool's own figures."""

    tool: str
    requests: int
    failed: int
    """As the tool counts: for ab a sum of reasons, not of requests; for wrk the sum of its errors."""
    non_2xx: int = 0
    aborted: bool = False
    """The tool ended by itself before its time (ab: at the first reset without -r)."""
    reasons: dict[str, int] = field(default_factory=dict)
    ran_s: float | None = None
    rate_per_s: float | None = None
    reason_aborted: str | None = None
    """The last lines of a tool that gave up: it prints no figures then."""
    version: str | None = None


def read_ab(text: str) -> Report:
    """The report of ApacheBench.

    Raises
    ------
    UnreadableReport
        Neither a report nor the line that ab prints when it gives up.
    """
    if not (complete := re.search(r"Complete requests:\s+(\d+)", text)):
        return _aborted_ab(text)
    reasons = AB_REASONS.search(text)
    names = ("connect", "receive", "length", "exceptions")
    return Report(
        tool="ab",
        requests=int(complete[1]),
        failed=_number(r"Failed requests:\s+(\d+)", text),
        non_2xx=_number(r"Non-2xx responses:\s+(\d+)", text),
        reasons={
            **dict(zip(names, map(int, reasons.groups() if reasons else (0, 0, 0, 0)), strict=True)),
            "write": _number(r"Write errors:\s+(\d+)", text),
        },
        ran_s=_float(r"Time taken for tests:\s+([\d.]+)", text),
        rate_per_s=_float(r"Requests per second:\s+([\d.]+)", text),
        version=_version(r"ApacheBench, Version (\S+)", text),
    )


def _aborted_ab(text: str) -> Report:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    given_up = AB_ABORTED.search(text)
    errors = AB_ERROR.findall(text)
    if not given_up and not errors:
        raise UnreadableReport(f"no report of ab: {lines[-1] if lines else 'nothing'}")
    return Report(
        tool="ab",
        requests=int(given_up[1]) if given_up else 0,
        failed=1,
        aborted=True,
        reason_aborted=errors[0] if errors else " | ".join(lines[-4:]),
    )


def read_wrk(text: str) -> Report:
    """The report of wrk.

    Raises
    ------
    UnreadableReport
        No line with the number of requests.
    """
    total = WRK_TOTAL.search(text)
    if not total:
        lines = text.strip().splitlines()
        raise UnreadableReport(f"no report of wrk: {lines[-1] if lines else 'nothing'}")
    errors = WRK_ERRORS.search(text)
    counts = map(int, errors.groups() if errors else (0, 0, 0, 0))
    reasons = dict(zip(("connect", "read", "write", "timeout"), counts, strict=True))
    non_2xx = _number(r"Non-2xx or 3xx responses:\s+(\d+)", text)
    return Report(
        tool="wrk",
        requests=int(total[1]),
        failed=sum(reasons.values()) + non_2xx,
        non_2xx=non_2xx,
        reasons=reasons,
        ran_s=float(total[2]) * WRK_UNIT_S[total[3]],
        rate_per_s=_float(r"Requests/sec:\s+([\d.]+)", text),
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _float(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text)
    return float(found[1]) if found else None


def _version(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None
