"""Broken and odd input: real files and documents with a few changes, and texts made of the formats' own words."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml
from crossplane.analyzer import DIRECTIVES
from hypothesis import strategies as st

from sim.scenario import haproxy_cfg, haproxy_proxy, haproxy_server

TESTS = Path(__file__).parent.parent
CONFIGS = TESTS.parent / "configs"


def verdicts(program: str) -> list[dict[str, Any]]:
    return yaml.safe_load((TESTS / "scenario" / f"{program}_verdicts.yaml").read_text(encoding="utf-8"))


# ---------------------------------------------------------------- values

ODD_NUMBERS = (
    0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 0.0, -0.5, 1e-300, 1e300,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "null", "~", "yes", "0", "-1", "1e999", "0x1F", "1_000", "²", "٣", "9" * 5000, "nan", "inf",
    "-5s", "1e3s", "9" * 400 + "s", "100%", "-1%", "99999999999999999999%", "a" * 5000, "a\0b", "a\nb",
    "a\r\nb", "\u2028", "\ufeff", "\x1b[31m", "{{ .Values.x }}", "{% if x %}", "${HOME}", "$(HOME)", "../x",
    "/etc/passwd", "https://a.b", "[::1]:80", "0.0.0.0", "app:red", "IntOrString", "\U0001f600", "é",
    "sleep 1e9", "sleep 99999999999999999999", "rm -rf /", "sh -c 'sleep 1", "1..9:5", "1ms..9s:3", "0/s",
)  # fmt: skip
numbers = st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats()
texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
scalars = st.none() | st.booleans() | numbers | texts
values = st.deferred(
    lambda: scalars | scalars | st.lists(values, max_size=2) | st.dictionaries(texts, values, max_size=2)
)


# ---------------------------------------------------------------- documents


def paths_in(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document below its root."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path for key, value in inner for path in ((*here, key), *paths_in(value, (*here, key)))]


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


@st.composite
def changed(draw: st.DrawFn, data: Any, odd: st.SearchStrategy[Any] = values) -> Any:
    """A document with up to three places replaced, taken out, doubled, moved or given another key."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 3))):
        places = paths_in(data)
        if not places:
            break
        *path, key = draw(st.sampled_from(places))
        parent = at(data, tuple(path))
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "wrap", "swap"])):
            case "replace":
                parent[key] = draw(odd)
            case "remove":
                del parent[key]
            case "add" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[key]) if draw(st.booleans()) else draw(odd))
            case "add":
                parent[draw(texts)] = draw(odd)
            case "wrap":
                parent[key] = draw(st.sampled_from([[parent[key]], {"a": parent[key]}, str(parent[key])]))
            case "swap":
                other = draw(st.sampled_from(places))
                parent[key] = copy.deepcopy(at(data, other[:1]) if len(other) == 1 else parent[key])
    return data


def as_yaml(*documents: Any) -> str:
    return yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


# ---------------------------------------------------------------- texts

_WORDS = re.compile(r"(\s+|[;{}])")


@st.composite
def damaged(draw: st.DrawFn, seeds: list[str], pieces: list[str]) -> str:
    """A real text with words or spans cut out, doubled or replaced by a *piece* of its language."""
    text = draw(st.sampled_from(seeds))
    if draw(st.booleans()):  # gently: the outcome is often accepted, so that what comes after it is reached
        words = _WORDS.split(text)
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(["", *pieces, *words]))
        return "".join(words)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 2, 5, 20, 200])))
        new = draw(st.sampled_from(["", text[start:end] * 2, *pieces]) | texts)
        text = text[:start] + new + text[end:]
    return text


def lines_of(words: list[str], ends: list[str], joints: list[str]) -> st.SearchStrategy[str]:
    """Lines made of a language's words."""
    line = st.lists(st.sampled_from(words) | texts, min_size=1, max_size=7)
    whole = st.tuples(line, st.sampled_from(joints), st.sampled_from(ends))
    return st.lists(whole.map(lambda all3: all3[1].join(all3[0]) + all3[2]), max_size=12).map("".join)


YAML_SEEDS = [path.read_text(encoding="utf-8") for path in sorted((CONFIGS / "tutorial").glob("*.yaml"))]
YAML_PIECES = [
    "&a ", "*a", "<<: *a\n", "!!binary ", "!!timestamp ", "!!bool ", "!!int ", "!!set ", "!!omap ", "!x ", "? ", ": ",
    "- ", "[", "]", "{", "}", "|", ">", "|2-\n", "'", '"', "\\u0000", "#", "---\n", "...\n", "%YAML 1.2\n", "\t",
    "\r\n", "\r", "\0", "\ufeff", "=", "~", ".nan", ".inf", "1e400", "0b_", "0x", "{{ .Values.x }}", "{%- if -%}",
]  # fmt: skip
yaml_texts = (
    damaged(YAML_SEEDS, YAML_PIECES)
    | lines_of(YAML_PIECES, ["\n", "", ": x\n"], ["", " ", "\n"])
    | st.text(alphabet="abk: -[]{}&*!|>'\"\n\t#%@`,?x0.~<=\\", max_size=60)
)
raw_bytes = (
    st.binary(max_size=60)
    | yaml_texts.map(lambda text: text.encode())
    | yaml_texts.flatmap(
        lambda text: st.sampled_from(["utf-16", "utf-32", "latin-1", "utf-8-sig"]).map(
            lambda code: text.encode(code, "replace")
        )
    )
)

NGINX_SEEDS = [case["text"] for case in verdicts("nginx")]
NGINX_PIECES = [
    *sorted(DIRECTIVES), "{", "}", ";", "#", "'", '"', "\\", "$", "${", "$uri", "on", "off", "auto", "1s", "10k", "80",
    "[::]:80", "=", "~", "^~", "/", "events {}", "http {", "server {", "location / {", "include *.conf;", "\r\n", "\0",
    "lua_x { }", "_by_lua_block", "content_by_lua_block { } }", "if ($x) {", "map $a $b {", "default_server",
]  # fmt: skip
nginx_texts = (
    damaged(NGINX_SEEDS, NGINX_PIECES)
    | damaged(NGINX_SEEDS, NGINX_PIECES)
    | damaged(NGINX_SEEDS, NGINX_PIECES)
    | lines_of(NGINX_PIECES, [";", " {", "}", "\n", ""], [" ", ""])
    | lines_of(NGINX_PIECES, [";\n"], [" "]).map(lambda text: f"events {{}} http {{ server {{ {text} }} }}")
)

HAPROXY_SEEDS = [case["text"] for case in verdicts("haproxy")]
HAPROXY_WORDS = sorted(
    {
        *(word for module in (haproxy_cfg, haproxy_proxy, haproxy_server) for words in vars(module).values()
          if isinstance(words, frozenset | dict) for word in words if isinstance(word, str)),
        *haproxy_proxy._KEYWORDS, *haproxy_server._FLAGS, *haproxy_server._IGNORED,
    }
)  # fmt: skip
HAPROXY_PIECES = [
    *HAPROXY_WORDS, "listen l\n", "frontend f\n", "backend b\n", "defaults\n", "global\n", "resolvers r\n", "no",
    "default", "option", "server a app:80 ", "server-template a 1-3 app:80 ", "bind :80\n", "from", "if", "{", "}",
    "1s", "0", "-1", "25d", "1-99999999999", "80-90", "$A", '"$A"', '"${A}"', '"${A[*]}"', "\\x41", "\\x", "\\",
    "'", '"', "#", "\n", "\r\n", "\0", ".if", "a" * 300,
]  # fmt: skip
haproxy_texts = (
    damaged(HAPROXY_SEEDS, HAPROXY_PIECES)
    | damaged(HAPROXY_SEEDS, HAPROXY_PIECES)
    | damaged(HAPROXY_SEEDS, HAPROXY_PIECES)
    | lines_of(HAPROXY_PIECES, ["\n", " "], [" ", ""])
    | lines_of(HAPROXY_PIECES, ["\n"], [" "]).map(lambda text: f"listen l\nmode http\nbind :80\n{text}\n")
)

SETTABLE = [
    "load", "load.connections", "load.duration", "load.thinkTime", 'images."app:red".startup', "update.at",
    "manifests[0]", "deployment/app.spec.replicas", "deployment/app.spec.template.spec.containers[web].image",
    "deployment/app.spec.template.spec.containers[0].ports", "service/app.spec.ports[0].port", "configmap/conf.data",
    'configmap/conf.data."nginx.conf"', "haproxy.defaults.retries", "haproxy.listen[app].server[app].fall",
    "haproxy.listen", "haproxy(conf).global.maxconn", "nginx.http.keepalive_timeout", "nginx.http.server.listen",
    "nginx.http.server.location[/].root", "nginx(conf).events", "timing", "cluster.nodes", "hooks", "description",
]  # fmt: skip
PATH_PIECES = [
    ".",
    "[",
    "]",
    '"',
    "'",
    "=",
    "(",
    ")",
    "/",
    "[0]",
    "[-1]",
    "[²]",
    "[" + "9" * 5000 + "]",
    ".a",
    "a" * 300,
    *SETTABLE,
]
set_texts = st.tuples(
    st.sampled_from(SETTABLE) | damaged(SETTABLE, PATH_PIECES),
    st.sampled_from(["=", "=", "=", "", "=="]),
    texts
    | values.map(lambda value: as_yaml(value).removesuffix("...\n"))
    | damaged(["[1, 2]", "{a: 1}", "5s"], YAML_PIECES),
).map("".join)
RANGES = [
    "1..9:5",
    "1,2,3",
    "10ms..500ms:4:log",
    "25%..100%:4",
    "500/s..2000/s:4",
    "true,false",
    "[1,2],{a: 1}",
    "0.0..10:5",
]
parameter_texts = st.tuples(
    st.sampled_from(SETTABLE) | damaged(SETTABLE, PATH_PIECES),
    st.just("="),
    texts
    | damaged(
        RANGES,
        [
            "..",
            ":",
            ":log",
            ",",
            "[",
            "]",
            "'",
            "-",
            "9" * 400,
            "9" * 5000,
            "1e9",
            "ms",
            "%",
            "0",
            "1..99999999",
        ],
    ),
).map("".join)
