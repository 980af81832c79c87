"""haproxy.cfg: what HAProxy rejects is rejected, what it takes is read as it reads it, or refused by name."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from servers import taken_by

from sim.errors import InputError, UnsupportedInput
from sim.scenario.haproxy_cfg import parse_haproxy
from sim.scenario.haproxy_words import read_lines
from sim.scenario.model import HAProxyBackend, HAProxyCheck, HAProxyConf, HttpMode

CASES = yaml.safe_load((Path(__file__).parent / "haproxy_verdicts.yaml").read_text())
TIMEOUTS = "timeout connect 1s\ntimeout client 1s\ntimeout server 1s\n"


def read(text: str, **env: str) -> HAProxyConf:
    return parse_haproxy(text, where="haproxy.cfg", env=env)


def backend(lines: str, *, defaults: str = "") -> HAProxyBackend:
    """The backend of a listen section with these lines."""
    section = f"listen l\nbind :80\nserver a 10.0.0.1:80 check\n{lines}\n"
    return read(f"defaults\nmode http\n{TIMEOUTS}{defaults}\n{section}").backends[0]


def check(server_words: str = "", lines: str = "", *, defaults: str = "") -> HAProxyCheck:
    section = f"listen l\nbind :80\n{lines}\nserver a 10.0.0.1:80 check {server_words}\n"
    found = read(f"defaults\nmode http\n{defaults}\n{section}").backends[0].servers[0].check
    assert found is not None
    return found


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_verdict(case):
    """Each file gets the verdict that stands beside it, in one line that names what is wrong."""
    env = case.get("env", {})
    if case["verdict"] == "good":
        parse_haproxy(case["text"], where="haproxy.cfg", env=env)
        return
    kind = UnsupportedInput if case["verdict"] == "refused" else InputError
    with pytest.raises(InputError) as caught:
        parse_haproxy(case["text"], where="haproxy.cfg", env=env)
    assert type(caught.value) is kind
    assert case["says"] in str(caught.value)
    assert str(caught.value).startswith("haproxy.cfg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", [c for c in CASES if c.get("live", True)], ids=lambda case: case["name"])
def test_verdict_of_haproxy_itself(case, tmp_path):
    """`haproxy -c` takes what is good or refused here, and rejects what is bad here."""
    accepted, said = taken_by("haproxy", case["text"], tmp_path, case.get("env"))
    assert accepted == (case["verdict"] != "bad"), said


# ---------------------------------------------------------------- words


def words(line: str, **env: str) -> tuple[str, ...]:
    return next(iter(read_lines(line + "\n", "haproxy.cfg", env))).words


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"a b\ c", ("a", "b c")),
        (r"a 'b \n c' d", ("a", r"b \n c", "d")),  # nothing is special in single quotes
        (r'a "b \"c\" \x41" d', ("a", 'b "c" A', "d")),
        (r"a b\#c #d", ("a", "b#c")),
        ("a b#c", ("a", "b")),  # a comment may start within a word
        ('a "b#c"', ("a", "b#c")),
        ('a ""', ("a", "")),
        ("a x'y z'w", ("a", "xy zw")),
        ("\ta \t b\r", ("a", "b")),
        (r"a b\q", ("a", r"b\q")),  # an unknown escape stays as it is
    ],
)
def test_quotes_and_escapes(line, expected):
    """configuration.txt 2.2."""
    assert words(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('a "${X}"', ("a", "1 2")),
        ('a "$X/b"', ("a", "1 2/b")),
        ("a ${X} '$X'", ("a", "${X}", "$X")),  # only inside double quotes
        ('a "${Y-9}" "${X-9}"', ("a", "9", "1 2")),
        ('a "${Y-}"', ("a", "")),
        ('a "${X[*]}"', ("a", "1", "2")),  # one word for each
    ],
)
def test_environment(line, expected):
    """configuration.txt 2.3."""
    assert words(line, X="1 2") == expected


@given(st.text(alphabet="ab \\\"'#$", max_size=12))
def test_any_line_is_read_or_rejected(text):
    """No line makes the reader fail in another way, and no word holds what quoting should have removed."""
    try:
        lines = list(read_lines(text + "\n", "haproxy.cfg", {"a": "b"}))
    except InputError:
        return
    assert all(isinstance(word, str) for line in lines for word in line.words)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("5000", 5), ("5s", 5), ("1500us", 0.002), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1d", 86400)],
)
def test_times(text, expected_s):
    """Milliseconds unless a unit is given; parts of a millisecond are rounded up."""
    assert backend(f"timeout server {text}").timeout_server_s == pytest.approx(expected_s)


def test_time_zero_is_no_limit():
    """`timeout server 0` waits for ever."""
    assert backend("timeout server 0").timeout_server_s is None


# ---------------------------------------------------------------- defaults


def test_defaults_of_haproxy():
    """retries 3, retry-on conn-failure, no redispatch, reuse safe, keep-alive on both sides."""
    conf = read("listen l\nmode http\nbind :80\nserver a 10.0.0.1:80 check\n")
    found = conf.backends[0]
    assert (found.retries, found.retry_on, found.redispatch) == (3, {"conn-failure"}, 0)
    assert (found.http_reuse, found.balance, found.http_mode) == ("safe", "roundrobin", HttpMode.KEEP_ALIVE)
    assert (found.timeout_connect_s, found.timeout_server_s, found.timeout_queue_s) == (None, None, None)
    server_check = found.servers[0].check
    assert (server_check.inter_s, server_check.rise, server_check.fall) == (2.0, 2, 3)
    assert (server_check.fastinter_s, server_check.downinter_s, server_check.http_path) == (None, None, None)
    assert "no timeout for client, connect, server" in conf.warnings[0]


def test_a_section_takes_the_last_defaults_before_it():
    """A new defaults section starts from HAProxy's own values, not from the one before."""
    text = (
        "defaults\nmode http\nretries 7\nlisten a\nbind :80\ndefaults\nmode http\nlisten b\nbind :81\n"
        "defaults named\nmode http\nretries 9\nlisten c\nbind :82\n"
    )
    assert [found.retries for found in read(text).backends] == [7, 3, 9]


def test_from_names_the_defaults():
    """`from` wins over the last one, and defaults can build on defaults."""
    text = (
        "defaults base\nmode http\nretries 7\noption redispatch 2\n"
        "defaults more from base\nretries 8\n"
        "defaults last\nmode http\n"
        "listen a from base\nbind :80\nlisten b from more\nbind :81\nlisten c\nbind :82\n"
    )
    assert [(found.retries, found.redispatch) for found in read(text).backends] == [(7, 2), (8, 2), (3, 0)]


def test_a_section_does_not_change_its_defaults():
    """What one section sets is not seen by the next."""
    text = (
        "defaults\nmode http\nretries 7\ndefault-server inter 5s\n"
        "listen a\nbind :80\nretries 1\ntimeout server 9s\ndefault-server inter 1s\n"
        "server x 10.0.0.1:80 check\n"
        "listen b\nbind :81\nserver x 10.0.0.1:80 check\n"
    )
    b = read(text).backends[1]
    assert (b.retries, b.timeout_server_s, b.servers[0].check.inter_s) == (7, None, 5)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("option redispatch", -1),
        ("option redispatch 2", 2),
        ("option redispatch -3", -3),
        ("option redispatch\nno option redispatch", 0),
        ("option redispatch 0", 0),
    ],
)
def test_redispatch(lines, expected):
    """-1: on the last retry; n: every nth; 0: never."""
    assert backend(lines).redispatch == expected


def test_no_option_undoes_the_default():
    """`no option` in a section beats the defaults."""
    assert backend("no option redispatch", defaults="option redispatch").redispatch == 0


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("retry-on none", set()),
        ("retry-on conn-failure 503", {"conn-failure", "503"}),
        (
            "retry-on all-retryable-errors",
            {
                *("conn-failure", "empty-response", "junk-response", "response-timeout", "0rtt-rejected"),
                *("500", "502", "503", "504"),
            },
        ),
    ],
)
def test_retry_on(lines, expected):
    """configuration.txt, retry-on."""
    assert backend(lines).retry_on == expected


# ---------------------------------------------------------------- connection modes


@pytest.mark.parametrize(
    ("of_frontend", "of_backend", "expected"),
    [
        ("http-keep-alive", "http-keep-alive", HttpMode.KEEP_ALIVE),
        ("http-keep-alive", "http-server-close", HttpMode.SERVER_CLOSE),
        ("http-server-close", "http-keep-alive", HttpMode.SERVER_CLOSE),
        ("http-server-close", "httpclose", HttpMode.CLOSE),
        ("httpclose", "http-keep-alive", HttpMode.CLOSE),
    ],
)
def test_the_stronger_mode_counts_on_both_sides(of_frontend, of_backend, expected):
    """configuration.txt 4: the matrix of modes is symmetric, close is the strongest."""
    conf = read(
        f"frontend f\nmode http\noption {of_frontend}\nbind :80\ndefault_backend b\n"
        f"backend b\nmode http\noption {of_backend}\nserver a 10.0.0.1:80\n"
    )
    assert conf.frontends[0].http_mode is expected
    assert conf.backends[0].http_mode is expected


def test_the_last_mode_of_a_section_counts():
    """Modes replace each other; `no option` ends only the mode that is set."""
    assert backend("option httpclose\noption http-server-close").http_mode is HttpMode.SERVER_CLOSE
    assert backend("option httpclose\nno option http-server-close").http_mode is HttpMode.CLOSE
    assert backend("no option httpclose", defaults="option httpclose").http_mode is HttpMode.KEEP_ALIVE


# ---------------------------------------------------------------- servers and checks


def test_listen_becomes_two():
    """A frontend and a backend of its name."""
    conf = read(
        f"listen l\nmode http\n{TIMEOUTS}bind :80\nbind :81-82\nmaxconn 9\nserver a app:8080 maxconn 5\n"
    )
    assert (conf.frontends[0].name, conf.frontends[0].backend, conf.frontends[0].binds) == (
        "l",
        "l",
        (80, 81, 82),
    )
    assert conf.frontends[0].maxconn == 9
    server = conf.backends[0].servers[0]
    assert (server.host, server.port, server.maxconn, server.check) == ("app", 8080, 5, None)


def test_check_settings_come_from_the_nearest_line():
    """default-server of the defaults, of the section, then the server line itself."""
    found = check(
        "fall 9",
        "default-server fall 8 rise 7",
        defaults="default-server inter 6s rise 5 fastinter 4s\ntimeout check 3s",
    )
    assert (found.inter_s, found.fastinter_s, found.rise, found.fall, found.timeout_check_s) == (
        6,
        4,
        7,
        9,
        3,
    )


def test_default_server_acts_on_the_lines_below_it():
    """Not on those above."""
    lines = "server x 10.0.0.2:80 check\ndefault-server inter 9s\nserver y 10.0.0.3:80 check"
    assert [server.check.inter_s for server in backend(lines).servers] == [2, 2, 9]


@pytest.mark.parametrize(
    ("lines", "method", "path", "expect"),
    [
        ("option httpchk", "OPTIONS", "/", ((200, 399),)),
        ("option httpchk /up", "OPTIONS", "/up", ((200, 399),)),
        (r"option httpchk GET /up HTTP/1.1\r\nHost:\ a", "GET", "/up", ((200, 399),)),
        ("option httpchk /up\nhttp-check send meth HEAD", "HEAD", "/up", ((200, 399),)),
        ("http-check send uri /x\nhttp-check expect status 200,204-206\noption httpchk", "OPTIONS", "/x",
         ((200, 200), (204, 206))),
        ("http-check send uri /x\nhttp-check expect status 200", "OPTIONS", None, ((200, 399),)),
        ("option httpchk /up\noption tcp-check", "OPTIONS", None, ((200, 399),)),
    ],
)  # fmt: skip
def test_http_checks(lines, method, path, expect):
    """What is asked for, and which statuses pass; 200-399 unless said otherwise."""
    found = check("", lines)
    assert (found.http_method, found.http_path, found.http_expect) == (method, path, expect)


def test_one_server_for_each_pod():
    """server-template keeps its slots, and the resolvers section its times."""
    conf = read(
        "resolvers dns\nnameserver a 10.96.0.10:53\ntimeout resolve 500\nhold obsolete 2s\nresolve_retries 5\n"
        "listen l\nmode http\nbind :80\nserver-template p 2-5 app.default:80 check resolvers dns\n"
    )
    server = conf.backends[0].servers[0]
    assert (server.name, server.host, server.template_count, server.resolvers) == (
        "p",
        "app.default",
        4,
        "dns",
    )
    found = conf.resolvers[0]
    assert (found.timeout_resolve_s, found.hold_obsolete_s, found.resolve_retries) == (0.5, 2, 5)


def test_address_from_the_environment():
    """As Kubernetes names the Service; a missing variable is said by name."""
    text = 'listen l\nmode http\nbind :80\nserver a "${APP_SERVICE_HOST}:${APP_SERVICE_PORT}"\n'
    server = read(text, APP_SERVICE_HOST="10.96.0.7", APP_SERVICE_PORT="8080").backends[0].servers[0]
    assert (server.host, server.port) == ("10.96.0.7", 8080)
    with pytest.raises(UnsupportedInput, match="line 4: environment variable APP_SERVICE_PORT is not set"):
        read(text, APP_SERVICE_HOST="10.96.0.7")


def test_setenv_acts_on_later_lines():
    """The container's own environment is left alone."""
    env = {"A": "1"}
    text = 'global\nsetenv PORT 81\nlisten l\nmode http\nbind ":${PORT}"\nserver a "10.0.0.1:8${A}"\n'
    conf = parse_haproxy(text, where="haproxy.cfg", env=env)
    assert (conf.frontends[0].binds, conf.backends[0].servers[0].port, env) == ((81,), 81, {"A": "1"})


# ---------------------------------------------------------------- frontends, global


def test_frontend_settings():
    """Time-outs of the client's side, and what HAProxy answers itself."""
    text = (
        "global\nmaxconn 4096\nhard-stop-after 30s\ngrace 5s\nclose-spread-time 2s\n"
        "frontend f\nmode http\nbind :80\ntimeout client 50s\ntimeout http-request 10s\n"
        "timeout http-keep-alive 5s\noption idle-close-on-response\nmonitor-uri /up\n"
    )
    conf = read(text)
    assert (conf.maxconn, conf.hard_stop_after_s, conf.grace_s, conf.close_spread_time_s) == (4096, 30, 5, 2)
    found = conf.frontends[0]
    assert (found.timeout_client_s, found.timeout_http_request_s, found.timeout_http_keep_alive_s) == (
        50,
        10,
        5,
    )
    assert (found.idle_close_on_response, found.monitor_uri) == (True, "/up")


def test_frontend_without_a_backend_has_an_empty_one():
    """HAProxy answers 503: a backend without servers."""
    conf = read("frontend f\nmode http\ntimeout client 1s\nbind :80\n")
    assert conf.frontends[0].backend == ""
    assert [(found.name, found.servers) for found in conf.backends] == [("", ())]


def test_listener_on_loopback_is_not_reached():
    """Nothing outside the pod can use it."""
    conf = read(
        f"listen l\nmode http\n{TIMEOUTS}bind :80\nlisten own\nmode http\n{TIMEOUTS}bind 127.0.0.1:81\n"
    )
    assert [found.name for found in conf.frontends] == ["l"]


def test_checks_by_options_are_said():
    """`option httpchk` asks with OPTIONS unless told otherwise; nginx's 405 then keeps the server down."""
    lines = f"listen l\nmode http\n{TIMEOUTS}bind :80\nserver a 10.0.0.1:80 check\noption httpchk"
    assert "line 1: listen l: its checks ask with OPTIONS" in read(f"{lines} /up\n").warnings[0]
    assert read(f"{lines} GET /up\n").warnings == ()


def test_errorfile_is_said():
    """Its content is not read, so the user is told what is assumed."""
    conf = read(f"listen l\nmode http\n{TIMEOUTS}bind :80\nerrorfile 503 /etc/haproxy/errors/503.http\n")
    assert "line 7: errorfile: taken as HAProxy's own answer" in conf.warnings[0]
