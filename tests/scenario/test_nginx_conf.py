"""nginx.conf: what nginx rejects is rejected, what it takes is read as it reads it, or refused by name."""

from pathlib import Path

import pytest
import yaml
from servers import taken_by

from sim.errors import InputError, UnsupportedInput
from sim.scenario.model import NginxConf
from sim.scenario.nginx_conf import file_of, location_of, parse_nginx, stream_for_s

CASES = yaml.safe_load((Path(__file__).parent / "nginx_verdicts.yaml").read_text())


def read(http: str, **options) -> NginxConf:
    return parse_nginx(f"events {{}}\nhttp {{ {http} }}\n", where="nginx.conf", **options)


def in_location(directives: str) -> str:
    return f"server {{ listen 80; location / {{ {directives} }} }}"


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_verdict(case):
    """Each file gets the verdict that stands beside it, in one line that names what is wrong."""
    if case["verdict"] == "good":
        parse_nginx(case["text"], where="nginx.conf")
        return
    kind = UnsupportedInput if case["verdict"] == "refused" else InputError
    with pytest.raises(InputError) as caught:
        parse_nginx(case["text"], where="nginx.conf")
    assert type(caught.value) is kind
    assert case["says"] in str(caught.value)
    assert str(caught.value).startswith("nginx.conf")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", [c for c in CASES if c.get("live", True)], ids=lambda case: case["name"])
def test_verdict_of_nginx_itself(case, tmp_path):
    """`nginx -t` takes what is good or refused here, and rejects what is bad here."""
    accepted, said = taken_by("nginx", case["text"], tmp_path)
    assert accepted == (case["verdict"] != "bad"), said


# ---------------------------------------------------------------- defaults and inheritance


def test_defaults_are_nginx_own():
    """An empty server listens on 80 with keep-alive 75 s, 1000 requests, 1 h, and backlog 511."""
    conf = read("server { }")
    assert conf.keepalive_timeout_s == 75
    assert (conf.keepalive_requests, conf.keepalive_time_s) == (1000, 3600)
    assert (conf.client_header_timeout_s, conf.lingering_time_s, conf.lingering_timeout_s) == (60, 30, 5)
    assert [(listen.port, listen.backlog) for listen in conf.listens] == [(80, 511)]
    assert (conf.worker_processes, conf.worker_connections, conf.worker_shutdown_timeout_s) == (1, 512, None)


def test_main_settings():
    """`auto` workers are one for each core; worker_shutdown_timeout 0 is no limit."""
    text = (
        "worker_processes auto; worker_shutdown_timeout {}; events {{ worker_connections 9; }}"
        "http {{ server {{ }} }}"
    )
    conf = parse_nginx(text.format("2m"), where="nginx.conf")
    assert (conf.worker_processes, conf.worker_connections, conf.worker_shutdown_timeout_s) == (None, 9, 120)
    assert parse_nginx(text.format("0"), where="nginx.conf").worker_shutdown_timeout_s is None


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("5", 5),
        ("5s", 5),
        ("500ms", 0.5),
        ("1m30s", 90),
        ('"1h 1m 1"', 3661),
        ("1d", 86400),
        ("1s500ms", 1.5),
    ],
)
def test_times(text, expected_s):
    """A bare number is seconds; units follow each other from large to small."""
    assert read(f"keepalive_time {text}; server {{ }}").keepalive_time_s == pytest.approx(expected_s)


def test_a_server_is_handed_what_stands_below_it():
    """Inheritance does not depend on the order within a block."""
    assert read("server { listen 80; } keepalive_timeout 7;").keepalive_timeout_s == 7


def test_inner_blocks_win():
    """http, server, location: the innermost value counts, and only where it stands."""
    conf = read(
        "keepalive_timeout 1; root /a; server { keepalive_timeout 2 60; root /b;"
        "location /x { keepalive_timeout 3; } location /y { root /c; } }"
    )
    assert conf.keepalive_timeout_s == 2
    found = {place.path: (place.keepalive_timeout_s, place.root) for place in conf.locations}
    assert found == {"/x": (3, "/b"), "/y": (2, "/c"), "/": (2, "/b")}


# ---------------------------------------------------------------- listening


def test_ipv4_socket_counts_where_there_are_two():
    """Clients of a Service come over IPv4: its backlog is the one that matters."""
    conf = read("server { listen [::]:80 backlog=7; listen 80 default_server backlog=9; }")
    assert [(listen.port, listen.backlog) for listen in conf.listens] == [(80, 9)]


def test_server_on_loopback_is_left_out_with_a_warning():
    """It cannot be reached from outside the pod."""
    conf = read("server { listen 80; } server { listen 127.0.0.1:81; return 500; }")
    assert [listen.port for listen in conf.listens] == [80]
    assert "loopback" in conf.warnings[0]


# ---------------------------------------------------------------- locations


def test_location_is_found_as_nginx_finds_it():
    """Exact before the longest prefix, whatever the order in the file; the query does not count."""
    conf = read(
        "server { location /a { return 201; } location /a/b { return 202; } location = /a/b { return 203; }"
        " location =/c { return 204; } }"
    )
    status = {
        path: location_of(conf, path).status for path in ("/a", "/a/b", "/a/bc", "/a/b?x", "/c", "/cc", "/")
    }
    assert status == {"/a": 201, "/a/b": 203, "/a/bc": 202, "/a/b?x": 203, "/c": 204, "/cc": 200, "/": 200}


def test_location_belongs_to_its_port():
    """Two servers on two ports answer the same path each in their own way."""
    conf = read(
        "server { listen 80; location /x { return 201; } } server { listen 81; location / { return 202; } }"
    )
    assert location_of(conf, "/x", 80).status == 201
    assert location_of(conf, "/x", 81).status == 202
    assert location_of(conf, "/y", 80).status == 200


def test_return_of_the_server_beats_its_locations():
    """It runs before a location is looked for."""
    conf = read("server { return 503; location /x { return 200; } }")
    assert location_of(conf, "/x").status == 503


def test_first_return_counts():
    """The second one is never reached."""
    assert location_of(read(in_location("return 201; return 500;")), "/").status == 201


@pytest.mark.parametrize(
    ("location", "path", "file"),
    [
        ("location / { root /www; }", "/healthy.html", "/www/healthy.html"),
        ("location / { root /www; }", "/", "/www/index.html"),
        ("location / { root /www; index a.txt b.txt; }", "/d/?q", "/www/d/a.txt"),
        ("location /h/ { alias /srv/health/; }", "/h/up", "/srv/health/up"),
        ("location / { root html; }", "/x", "/usr/share/nginx/html/x"),
        ("location / { return 200; }", "/healthy.html", None),
        ("location / { echo up; }", "/healthy.html", None),
    ],
)
def test_file_behind_a_path(location, path, file):
    """root goes before the whole path, alias before what follows the location."""
    conf = read(f"server {{ {location} }}")
    assert file_of(location_of(conf, path), path) == file


# ---------------------------------------------------------------- slow answers


@pytest.mark.parametrize(
    ("commands", "header_s", "body_s"),
    [
        ("echo_sleep 0.5; echo a;", 0.5, 0),
        ("echo a; echo_sleep 0.5; echo b;", 0.5, 0),  # output waits until it is flushed
        ("echo a; echo_flush; echo_sleep 0.5; echo b; echo_sleep 0.25;", 0, 0.75),
        ("echo_flush; echo_sleep 0.5; echo a;", 0.5, 0),
        ("echo_sleep 0.5; return 204;", 0, 0),  # return comes first
    ],
)
def test_echo_sleep(commands, header_s, body_s):
    """A sleep delays the header until output was flushed, then the body (seen: nginx 1.22.1, echo 0.63)."""
    place = location_of(read(in_location(commands)), "/")
    assert (place.header_delay_s, place.body_delay_s) == (header_s, body_s)


@pytest.mark.parametrize(
    ("settings", "n_bytes", "expected_s"),
    [
        ("limit_rate 10k;", 10 * 1024, 0),
        ("limit_rate 10k;", 10 * 1024 + 1, 1),
        ("limit_rate 10k;", 36_000, 3),  # seen: 3.003 s
        ("limit_rate 10k; limit_rate_after 20k;", 36_000, 1),  # seen: 1.001 s
        ("limit_rate 0;", 36_000, 0),
    ],
)
def test_limit_rate_lets_a_second_out_at_once(settings, n_bytes, expected_s):
    """n bytes at rate r take ceil(n / r) - 1 seconds."""
    assert stream_for_s(location_of(read(in_location(settings)), "/"), n_bytes) == expected_s


# ---------------------------------------------------------------- includes


def test_includes_are_read_in_the_order_of_their_names():
    """conf.d/*.conf from a ConfigMap, by absolute path or by name."""
    files = {
        "/etc/nginx/conf.d/b.conf": "server { listen 82; }",
        "/etc/nginx/conf.d/a.conf": "server { listen 81; }",
    }
    conf = read("include conf.d/*.conf;", includes=files)
    assert [listen.port for listen in conf.listens] == [81, 82]
    assert (
        read("include /etc/nginx/conf.d/a.conf;", includes={"a.conf": "server { listen 83; }"})
        .listens[0]
        .port
        == 83
    )


def test_error_in_an_include_names_that_file():
    """The line number counts in the file that holds it."""
    with pytest.raises(InputError, match=r"^a\.conf line 2: keepalive_timeout: 'x'"):
        read("include conf.d/*.conf;", includes={"a.conf": "server {\nkeepalive_timeout x; }"})


def test_include_that_is_not_given_is_refused():
    """A file of the image could hold anything; mime.types and modules cannot matter."""
    read("include mime.types; server { }")
    with pytest.raises(UnsupportedInput, match=r"include: conf\.d/\*\.conf is not among the given files"):
        read("include conf.d/*.conf; server { }")


def test_include_of_itself_ends():
    """A file that includes itself is an error, not a hang."""
    with pytest.raises(InputError, match="nested up to"):
        read("include a.conf;", includes={"a.conf": "include a.conf;"})
