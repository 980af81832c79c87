"""The classics of bad input, given to the command as a user would: one line, exit code 2, soon, in little memory."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from limits import CPU_S, MEMORY_BYTES, memory_limit, one_clear_line, said
from readers import OBJECTS, RICH, RUN, SCENARIO, SWEEP, TIMING, read_scenario

import sim.commands.predict as _predict  # noqa: F401 - imported before anything is timed
import sim.commands.sweep as _sweep  # noqa: F401
import validation.cli as _validate  # noqa: F401
from sim.cli import main
from sim.scenario import load_one
from sim.scenario.conf_text import MAX_CONF
from sim.scenario.haproxy_cfg import parse_haproxy
from sim.scenario.nginx_conf import parse_nginx
from sim.scenario.overrides import Overrides
from validation import observations

START_S = 2.5
"""CPU that Python and the libraries take to start."""


@pytest.fixture
def complaint(capsys, monkeypatch):
    """What `rollsim` says to bad input."""

    def run(*args: object) -> str:
        monkeypatch.setattr(sys, "argv", ["rollsim", *map(str, args)])
        with memory_limit(), pytest.raises(SystemExit) as ended:
            said(main)
        assert ended.value.code == 2
        return one_clear_line(capsys.readouterr().err.removesuffix("\n"))

    return run


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes, name: str = "rich.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def with_conf(key: str, text: str) -> str:
    """The rich scenario with another nginx.conf or haproxy.cfg."""
    objects = [
        {**each, "data": {**each["data"], key: text}} if each["kind"] == "ConfigMap" else each
        for each in OBJECTS
    ]
    return yaml.safe_dump_all([SCENARIO, *objects])


# ---------------------------------------------------------------- size


def run_apart(*args: object, stdin=None) -> tuple[int, str, float, float]:
    """Exit code, standard error, CPU seconds and peak bytes of `rollsim` in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", "from sim.cli import main; main()", *map(str, args)],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, errors, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


@pytest.fixture(scope="module")
def hundred_megabytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.yaml"
    with path.open("wb") as out:
        for _ in range(100):
            out.write(b"a: 1 # 3\n" * 111_112)
    return path


@pytest.mark.parametrize("piped", [False, True])
def test_100_mb(hundred_megabytes, piped):
    """By name and through a pipe: the reader stops at its limit."""
    with hundred_megabytes.open("rb") as stream:
        code, errors, cpu_s, peak = run_apart("predict", "-" if piped else hundred_megabytes, stdin=stream)
    assert code == 2
    assert "larger than 5 MB" in one_clear_line(errors.removesuffix("\n"))
    assert cpu_s < CPU_S + START_S
    assert peak < MEMORY_BYTES


def test_100_mb_that_a_scenario_names(file, complaint, hundred_megabytes):
    """Manifests, a timing profile and a sweep file have the same limit."""
    large = "larger than 5 MB"
    path = file(RICH)
    assert large in complaint("predict", path, "--set", f"manifests=[{hundred_megabytes}]")
    assert large in complaint("predict", path, "--set", f"timing={hundred_megabytes}")
    assert large in complaint("sweep", "-f", hundred_megabytes, "-o", path.with_suffix(".parquet"))


@pytest.mark.parametrize("key", ["nginx.conf", "haproxy.cfg"])
def test_large_configuration(file, complaint, key):
    """Longer than any that is written by hand; just below the limit it is read in time."""
    line = "# a comment of some forty characters here\n"
    assert "longer than 500000 characters" in complaint(
        "predict", file(with_conf(key, line * (MAX_CONF // 42 + 1)))
    )


NEAR_LIMIT = {
    "one word": "a",
    "words": "a ",
    "lines": "\n",
    "blanks": " ",
    "quotes": '"',
    "backslashes": "\\",
    "braces": "{",
    "blocks": "a {",
    "ends": "}",
    "hashes": "#\n",
    "dollars": "$",
    "variables": '"${A}"',
    "sections": "backend b{}\n",
    "defaults": "defaults d{}\n",
    "resolvers": "resolvers r{}\n",
    "servers": "server s{} a:80\n",
    "frontends": "frontend f{}\nmode http\nbind :80\n",
    "locations": "location /{} {{ }}\n",
    "patterns": "location ~ {} {{ }}\n",
    "server blocks": "server {{ listen {}; }}\n",
}


SHARES = [4, pytest.param(1, marks=pytest.mark.nightly)]
"""A quarter of the longest text that is read shows what grows faster than the text; the longest, by night."""


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("piece", NEAR_LIMIT)
def test_no_long_configuration_hangs(piece, share):
    """Whatever it repeats, the readers' work grows with its length and no faster."""
    length = MAX_CONF // share - 200
    form = NEAR_LIMIT[piece]
    n = length // len(form)
    text = "".join(form.format(i) for i in range(n)) if "{}" in form else form * n
    text = text[:length]
    with memory_limit():
        said(
            parse_haproxy,
            f"listen l\nmode http\nbind :80\n{text}\n",
            where="haproxy.cfg",
            env={"A": "x" * 100},
        )
        said(parse_nginx, f"events {{}} http {{ server {{ {text} }} }}", where="nginx.conf")


YAML_REPEATED = [
    "{{",
    "{%",
    "9",
    "0x9",
    "a",
    "- ",
    "a: ",
    "[",
    "&a ",
    "\n",
    "# ",
    "'",
    "!!str ",
    "\\",
    "---\n",
]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("piece", YAML_REPEATED)
def test_no_long_yaml_hangs(file, complaint, piece, share):
    """The same for YAML."""
    for tail in ("", "x", "\n]"):
        complaint("predict", file(f"a: {piece * (1_200_000 // share // len(piece))}{tail}"))


# ---------------------------------------------------------------- bombs and nesting


def test_alias_bomb(file, complaint):
    """Nine aliases of nine aliases: counted before they are expanded, by merge keys too."""
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "once its aliases are expanded" in complaint("predict", file("\n".join(laughs)))
    merged = ["a0: &a0 {x: 1}"]
    merged += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)]
    assert "once its aliases are expanded" in complaint("predict", file("\n".join(merged)))
    assert "once its aliases are expanded" in complaint(
        "predict", file(RICH), "--set", "load={" + ", ".join(laughs) + "}"
    )


def test_environment_bomb():
    """Variables that double with every line, of Kubernetes and of HAProxy's setenv."""
    lines = "".join(f'setenv A{n} "${{A{n - 1}}}${{A{n - 1}}}"\n' for n in range(1, 60))
    text = f"global\nsetenv A0 xxxxxxxxxx\n{lines}listen l\nmode http\nbind :80\n"
    with memory_limit():
        assert "characters from variables" in said(parse_haproxy, text, where="haproxy.cfg", env={})
        env = [{"name": "A0", "value": "x" * 10}]
        env += [{"name": f"A{n}", "value": f"$(A{n - 1})$(A{n - 1})"} for n in range(1, 60)]
        objects = yaml.safe_load_all(yaml.safe_dump_all(OBJECTS))
        changed = []
        for each in objects:
            if each["metadata"]["name"] == "proxy" and each["kind"] == "Deployment":
                each["spec"]["template"]["spec"]["containers"][0]["env"] = env
            changed.append(each)
        assert "longer than 131072 characters" in said(
            read_scenario, yaml.safe_dump_all([SCENARIO, *changed])
        )


@pytest.mark.parametrize(
    "include", ["include }", "include; }", "include a.conf b.conf; }", "include a.conf { x; } }"]
)
def test_an_include_of_no_one_file_where_no_context_is_known(include):
    """Found by coverage: crossplane counts no arguments in blocks that it does not know, and nginx does."""
    heard = said(
        parse_nginx, "events {}\nhttp { lir { " + include + " }", where="nginx.conf", includes={"a.conf": ""}
    )
    assert "include" in heard
    assert "nginx.conf line 2" in heard


def test_include_bomb():
    """Files that include each other many times over."""
    files = {f"{n}.conf": f"include {n + 1}.conf;\n" * 50 for n in range(7)} | {"7.conf": "# end\n"}
    with memory_limit():
        heard = said(parse_nginx, "events {} http { include 0.conf; }", where="nginx.conf", includes=files)
    assert "more than 1000 files are included" in heard


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "[" * 500 + "]" * 500])
def test_deep_nesting(file, complaint, text):
    """YAML in files and behind --set."""
    assert "nested more than 100 levels" in complaint("predict", file(text))
    assert "nested more than 100 levels" in complaint("predict", file(RICH), "--set", f"load={text[:50_000]}")


def test_deep_nesting_elsewhere(file, complaint):
    """Blocks of nginx, steps of a path, JSON of a run."""
    deep = "location /a { " * 5000 + "}" * 5000
    text = f"events {{}} http {{ server {{ {deep} }} }}"
    assert "nested more than 100 deep" in complaint("predict", file(with_conf("nginx.conf", text)))
    assert "101 steps" in complaint("predict", file(RICH), "--set", "load" + ".a" * 100 + "=1")
    path = file(gzip.compress(b"[" * 100_000), "0001.json.gz")
    assert "not JSON" in said(observations.read, path)


def test_template_of_many_servers():
    """A server-template makes no list of two thousand million names."""
    text = "listen l\nmode http\nbind :80\nserver-template a 1-2000000000 app:80\n"
    with memory_limit():
        assert "more than 10000 servers" in said(parse_haproxy, text, where="haproxy.cfg", env={})


# ---------------------------------------------------------------- encodings, line ends, templates


@pytest.mark.parametrize("code", ["utf-16", "utf-16-be", "utf-32", "latin-1"])
def test_wrong_encodings(file, complaint, code):
    """Said by name in every file that is read."""
    text = RICH.replace("everything", "ällés")
    wrong = ("not UTF-8", "control characters", "not YAML")
    assert any(part in complaint("predict", file(text.encode(code))) for part in wrong)
    assert any(
        part in complaint("sweep", "-f", file("kind: Swéep\n".encode(code), "s.yaml"), "-o", "x.parquet")
        for part in wrong
    )


def test_no_text_at_all(file, complaint):
    """NULs, random bytes, nothing."""
    for raw in (b"\0" * 100, bytes(range(256)), b"", b"\xef\xbb\xbf", b"\n\n---\n---\n"):
        complaint("predict", file(raw))


def test_windows_line_ends(file):
    """CR LF in the YAML, and inside the configurations: the same scenario."""
    plain = load_one(file(RICH))
    crlf = load_one(file(RICH.replace("\n", "\r\n")))
    texts = next(each for each in OBJECTS if each["kind"] == "ConfigMap")["data"]
    inside = load_one(file(with_conf("nginx.conf", texts["nginx.conf"].replace("\n", "\r\n"))))
    assert crlf.deployments == plain.deployments
    assert (
        inside.deployments[0].template.containers[0].nginx
        == plain.deployments[0].template.containers[0].nginx
    )
    text = texts["haproxy.cfg"].replace("\n", "\r\n")
    assert load_one(file(with_conf("haproxy.cfg", text))).deployments[1].template.containers[0].haproxy == (
        plain.deployments[1].template.containers[0].haproxy
    )


TEMPLATES = ["{{ .Values.x }}", "{{- .Values.x | quote -}}", "{% if x %}", "{{x}}"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_template_leftovers(file, complaint, template):
    """In a value, as a line, in a configuration, in a sweep, behind --set: said what to do."""
    left = "templating is left in; render it first"
    for text in (
        RICH.replace("replicas: 3", f"replicas: {template}"),
        RICH.replace("image: haproxy:2.6", f'image: "haproxy:{template}"'),
        f"{template}\n{RICH}",
        with_conf("nginx.conf", f"events {{}} http {{ keepalive_timeout {template}; server {{ }} }}"),
        with_conf(
            "haproxy.cfg", f"listen l\n mode http\n bind :8080\n http-request set-header X {template}\n"
        ),
    ):
        assert left in complaint("predict", file(text))
    sweep = yaml.safe_dump(SWEEP).replace("200", template)
    assert left in complaint("sweep", "-f", file(sweep, "s.yaml"), "-o", "x.parquet")
    assert left in complaint("predict", file(RICH), "--set", f"load.connections={template}")


# ---------------------------------------------------------------- numbers

FIELDS = [
    "load.connections", "load.duration", "load.thinkTime", "load.retries", "load.sources", "load.connectTimeout",
    "load.answerTimeout", "update[0].at", "cluster.nodes", "cluster.cores", 'images."app:red".startup',
    'images."app:blue".bodyBytes', 'images."app:blue".idleTimeout', 'images."app:blue".streamTime',
    'hooks."app/web/postStart".duration', "deployment/app.spec.replicas", "deployment/app.spec.minReadySeconds",
    "deployment/app.spec.progressDeadlineSeconds", "deployment/app.spec.strategy.rollingUpdate.maxSurge",
    "deployment/app.spec.template.spec.containers[web].readinessProbe.periodSeconds",
    "deployment/app.spec.template.spec.containers[web].readinessProbe.httpGet.port",
    "deployment/app.spec.template.spec.containers[web].ports[0].containerPort",
    "deployment/proxy.spec.template.spec.containers[0].lifecycle.preStop.sleep.seconds",
    "service/app.spec.ports[0].port", "service/app.spec.sessionAffinityConfig.clientIP.timeoutSeconds",
]  # fmt: skip
NUMBERS = {
    "NaN": ".nan", "infinity": ".inf", "minus infinity": "-.inf", "negative": "-1", "1e400": "1e400",
    "long": "9" * 5000,
    "long hexadecimal": "0x" + "f" * 5000, "beyond 64 bits": "18446744073709551616", "1e20": "1e20", "a word": "many",
}  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_odd_numbers(file, number):
    """No field takes one; the line names the field, or the --set that gave the value."""
    path = file(RICH)
    for field in FIELDS:
        heard = said(load_one, path, [f"{field}={NUMBERS[number]}"])
        assert heard is not None, field
        assert field.split(".")[-1].split("[")[0].strip('"') in heard, heard


@pytest.mark.parametrize(
    "sets",
    [
        ["load.connections=200000"],
        ["load.thinkTime=null", "load.rate=2000000/s"],
        ["deployment/app.spec.replicas=20000"],
    ],
)
def test_more_than_is_modelled(file, sets):
    """What would take the model hours is refused by name."""
    assert "modelled are up to" in said(load_one, file(RICH), sets)


@pytest.mark.parametrize("number", ["-1", "nan", "inf", "1e400", "9" * 5000, "0x10", "1.5.1", "٣", "--1"])
def test_odd_numbers_of_configurations(number):
    """Neither nginx nor HAProxy reads them as numbers, nor do we."""
    for keyword in ("keepalive_timeout", "keepalive_requests", "limit_rate"):
        text = f"events {{}} http {{ {keyword} {number}; server {{ }} }}"
        assert "line 1" in said(parse_nginx, text, where="nginx.conf")
    for keyword in (
        "retries",
        "timeout server",
        "maxconn",
        "server a app:80 weight",
        "server a app:80 check inter",
    ):
        text = f"listen l\nmode http\nbind :80\n{keyword} {number}\n"
        assert "line 4" in said(parse_haproxy, text, where="haproxy.cfg", env={})


@pytest.mark.parametrize(
    "text",
    [
        "1..9:99999999999",
        "1.." + "9" * 400,
        "1.." + "9" * 5000 + ":3",
        "0..1:1",
        "5..1:3",
        "1..9:" + "9" * 5000,
        "-9..9:3:log",
    ],
)
def test_odd_ranges(file, complaint, text):
    """Of a sweep: too many values, or numbers that are none."""
    assert "-p load.connections" in complaint(
        "sweep", file(RICH), "-p", f"load.connections={text}", "-o", "x.parquet"
    )


# ---------------------------------------------------------------- keys, versions, names


def test_duplicate_keys(file, complaint):
    """In YAML at any depth, and a mapping that has a key as text and as number."""
    for text in (
        RICH.replace("  replicas: 3\n", "  replicas: 3\n  replicas: 4\n"),
        RICH.replace("{image: x", "{image: x, image: y") + "---\n{a: 1, a: 2}\n",
        RICH.replace("connections: 10\n", 'connections: 10\n    "connections": 11\n'),
    ):
        assert "stands twice" in complaint("predict", file(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("apiVersion: rollsim/v1", "apiVersion: rollsim/v2"),
        ("apiVersion: rollsim/v1", "apiVersion: 1"),
        ("apiVersion: apps/v1", "apiVersion: apps/v1beta2"),
        ("apiVersion: apps/v1", "apiVersion: extensions/v1beta1"),
        ("apiVersion: apps/v1", "apiVersion: v1"),
        ("apiVersion: v1\nkind: Service", "apiVersion: v2\nkind: Service"),
        ("apiVersion: v1\nkind: Service", "apiVersion: serving.knative.dev/v1\nkind: Service"),
        ("apiVersion: v1\nkind: ConfigMap", "apiVersion: 1.0\nkind: ConfigMap"),
        ("kind: Deployment", "kind: DeploymentConfig"),
        ("kind: Scenario", "kind: Scenery"),
    ],
)
def test_unknown_versions_and_kinds(file, complaint, old, new):
    """Said by name, with what is known."""
    assert any(
        part in complaint("predict", file(RICH.replace(old, new, 1)))
        for part in ("allowed", "known", "expected", "no document")
    )


@pytest.mark.parametrize("name", ["a" * 300, "a" * 5000, "a\0b", "/dev/null", "..", "/proc/self/mem", ""])
def test_odd_file_names(file, complaint, name):
    """That the file system does not take, or that hold nothing to read."""
    path = file(RICH)
    for key in ("manifests", "timing"):
        value = f'["{name}"]' if key == "manifests" else f'"{name}"'
        text = RICH.replace("  timing: defaults\n", "").replace(
            "  load:\n", f"  {key}: {value}\n  load:\n", 1
        )
        if not (
            key == "manifests" and name in ("/dev/null", "..", "")
        ):  # nothing to read is nothing to complain of
            said(lambda text=text: read_scenario(text.replace("\0", "\\0")))
    if "\0" not in name:
        complaint("predict", name or path.parent / "nothing.yaml")


# ---------------------------------------------------------------- observations


def test_odd_runs(file):
    """Truncated, not zipped, a bomb, another JSON, NaN, fields that are missing or of another type."""
    whole = RUN.read_bytes()
    text = gzip.decompress(whole).decode()
    for raw, part in (
        (whole[:-20], "cannot be read"),
        (text.encode(), "cannot be read"),
        (gzip.compress(b"0" * 100_000_000), "larger than 20 MB unpacked"),
        (gzip.compress(b"[1]"), "expected a mapping"),
        (gzip.compress(text.replace('"load_s":', '"load_s":NaN,"x":').encode()), "NaN is no number"),
        (gzip.compress(text.replace('"requests":', '"asked":').encode()), "requests: missing"),
        (gzip.compress(text.replace('"failed":', '"failed":"x","y":').encode()), "failed: got"),
    ):
        with memory_limit():
            assert part in said(observations.read, file(raw, "0001.json.gz"))


def test_odd_run_at_the_command(file, complaint):
    """`rollsim validate --recorded` says which file it is."""
    path = file(b"no gzip", "0001.json.gz")
    folder = path.parent / "kept" / "some-scenario"
    folder.mkdir(parents=True)
    path = path.rename(folder / path.name)
    heard = complaint("validate", "--recorded", "--observations", folder.parent)
    assert heard.startswith(f"rollsim validate: {path}: cannot be read")


def test_circle_of_profiles(file):
    """Timing profiles that name each other end in one line."""
    from sim.scenario.timing import load_timing

    path = file(yaml.safe_dump({**TIMING, "base": "../t/b.yaml"}), "a.yaml")
    file(yaml.safe_dump({**TIMING, "base": f"../{path.parent.name}/a.yaml"}), "b.yaml")
    file(yaml.safe_dump({**TIMING, "base": f"../{path.parent.name}/b.yaml"}), "a.yaml")
    assert "in a circle" in said(load_timing, "a.yaml", beside=path.parent)


@pytest.mark.parametrize("data", ["-", "1", "[a]", "{1: a}"])
def test_a_configuration_in_what_is_no_map(data, file):
    """The ConfigMap's data is overridden by something else, and then a configuration in it (found by the fuzzer)."""
    sets = [f"configmap/conf.data={data}", "haproxy.defaults.retries=1"]
    assert "no ConfigMap of the manifests that holds a text for haproxy" in said(load_one, file(RICH), sets)


def test_an_override_of_nothing():
    """A sweep's `set` may have an empty name (found by the fuzzer)."""
    assert "empty path" in said(Overrides.parse, {"": None})
