"""The reports of ab and wrk, as the real tools printed them."""

import pytest

from validation.clients.reports import UnreadableReport, read_ab, read_wrk

AB_HEAD = """This is ApacheBench, Version 2.3 <$Revision: 1923142 $>
Copyright 1996 Adam Twiss, Zeus Technology Ltd, http://www.zeustech.net/

Benchmarking 127.0.0.1 (be patient).....done

Concurrency Level:      2
"""
AB_REFUSED = (
    AB_HEAD
    + """Time taken for tests:   0.250 seconds
Complete requests:      4
Failed requests:        6
   (Connect: 0, Receive: 4, Length: 0, Exceptions: 2)
Write errors:           1
Non-2xx responses:      3
Total transferred:      0 bytes
Requests per second:    15037.59 [#/sec] (mean)
"""
)
AB_CLEAN = (
    AB_HEAD
    + """Time taken for tests:   0.019 seconds
Complete requests:      40
Failed requests:        0
Keep-Alive requests:    40
Requests per second:    2132.65 [#/sec] (mean)
"""
)
AB_EXIT = """apr_socket_recv: Connection reset by peer (104)
This is ApacheBench, Version 2.3 <$Revision: 1923142 $>
Benchmarking 127.0.0.1 (be patient)...Total of 81543 requests completed
"""
AB_EXIT_AT_ONCE = """apr_socket_recv: Connection refused (111)
This is ApacheBench, Version 2.3 <$Revision: 1923142 $>
Benchmarking 127.0.0.1 (be patient)..."""
WRK = """Running 1s test @ http://127.0.0.1:10256/healthz
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.46ms    3.59ms  33.80ms   93.04%
    Req/Sec     3.57k   792.12     4.55k    70.00%
  3570 requests in 1.50m, 1.44MB read
  Socket errors: connect 1, read 20, write 300, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:   3542.37
"""


def test_ab_keeps_its_reasons_apart():
    """ "Failed requests" is the sum of the four reasons; writes and statuses are not in it."""
    report = read_ab(AB_REFUSED)
    assert (report.requests, report.failed, report.non_2xx, report.aborted) == (4, 6, 3, False)
    assert report.reasons == {"connect": 0, "receive": 4, "length": 0, "exceptions": 2, "write": 1}
    assert (report.version, report.ran_s, report.rate_per_s) == ("2.3", 0.25, 15037.59)


def test_ab_without_failures_prints_no_reasons():
    """The line of reasons is missing then: all of them are zero."""
    report = read_ab(AB_CLEAN)
    assert (report.requests, report.failed, set(report.reasons.values())) == (40, 0, {0})


@pytest.mark.parametrize(
    ("text", "requests", "reason"),
    [
        (AB_EXIT, 81543, "apr_socket_recv: Connection reset by peer (104)"),
        (
            "Benchmarking 127.0.0.1 (be patient)...apr_pollset_poll: The timeout specified has expired (70007)",
            0,
            "apr_pollset_poll: The timeout specified has expired (70007)",
        ),
        (AB_EXIT_AT_ONCE, 0, "apr_socket_recv: Connection refused (111)"),
    ],
)
def test_ab_that_gives_up_is_aborted(text, requests, reason):
    """Without -r ab ends at the first reset and prints only how far it came."""
    report = read_ab(text)
    assert (report.aborted, report.requests, report.reason_aborted) == (True, requests, reason)


def test_wrk_sums_its_errors():
    """connect, read, write, timeout and statuses apart; minutes are read as seconds."""
    report = read_wrk(WRK)
    assert (report.requests, report.failed, report.non_2xx, report.ran_s) == (3570, 330, 5, 90.0)
    assert report.reasons == {"connect": 1, "read": 20, "write": 300, "timeout": 4}


def test_wrk_without_errors():
    """Neither line is printed."""
    clean = "\n".join(line for line in WRK.splitlines() if "errors" not in line and "Non-2xx" not in line)
    assert read_wrk(clean).failed == 0


@pytest.mark.parametrize("read", [read_ab, read_wrk])
def test_other_text_is_no_report(read):
    """A shell's complaint is not taken for a run without failures."""
    with pytest.raises(UnreadableReport, match="not found"):
        read("sh: 1: ab: not found")
