"""What the code may not do, whatever it reads: run text as a program, or speak to anybody whom nobody has named."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from small_sweep import write_scenario

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("sim", "validation") for path in (ROOT / folder).rglob("*.py"))
BUILDS_OBJECTS = {
    "full_load", "full_load_all", "unsafe_load", "unsafe_load_all",
    *(f"{c}{kind}Loader" for c in ("", "C") for kind in ("", "Full", "Unsafe")),
}  # fmt: skip
"""What of PyYAML makes Python objects of a text's tags."""
READS_YAML = {"load", "load_all", "compose", "compose_all", "parse", "scan"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
SPEAKS = {"socket", "ssl", "urllib", "http", "httpx", "requests", "aiohttp", "asyncio", "ftplib", "smtplib"}
MAY_SPEAK = {
    "validation/clients/plain.py",  # the load, to the address of its settings
    "validation/clients/conntrack.py",  # the kernel
    "validation/calibration/forgets.py",
    "validation/calibration/kube_api.py",  # the lab's API server
    "validation/calibration/loopback.py", "validation/calibration/syn_probe.py", "validation/calibration/stops.py",
    "validation/lab/registry.py",  # whether a registry can be reached, for `lab up`
}  # fmt: skip
SHELLS = {"sh", "bash", "/bin/sh", "/bin/bash"}


def trees():
    for path in SOURCES:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def calls():
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield f"{name}:{node.lineno}", node


def dotted(node):
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def test_only_safe_yaml_is_read():
    """No loader that builds Python objects: those of PyYAML's safe family, or a class derived from one."""
    derived = {
        node.name
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and {dotted(base) for base in node.bases} & {"yaml.CSafeLoader", "yaml.SafeLoader"}
    }
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and dotted(node.value) == "yaml":
                assert node.attr not in BUILDS_OBJECTS, f"{name}:{node.lineno}: yaml.{node.attr}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "yaml":
                assert not {alias.name for alias in node.names} & BUILDS_OBJECTS, f"{name}:{node.lineno}"
    for where, call in calls():
        module, _, function = dotted(call.func).rpartition(".")
        if module == "yaml" and function in READS_YAML:
            loader = next((dotted(k.value) for k in call.keywords if k.arg == "Loader"), "none")
            loader = dotted(call.args[1]) if loader == "none" and len(call.args) > 1 else loader
            assert loader in {"yaml.CSafeLoader", "yaml.SafeLoader"} | derived, f"{where}: Loader {loader}"


def test_no_text_is_run_as_a_program():
    """No shell=True, os.system, eval, exec, pickle: what is read stays data."""
    for where, call in calls():
        called = dotted(call.func)
        assert called not in RUNS_TEXT, f"{where}: {called}"
        assert called not in {
            "os.system",
            "os.popen",
            "subprocess.getoutput",
            "subprocess.getstatusoutput",
        }, where
        assert not any(k.arg == "shell" for k in call.keywords), f"{where}: shell="
    for name, tree in trees():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {each.split(".")[0] for each in names} & UNPICKLES, f"{name}:{node.lineno}"


def test_no_shell_text_is_made_of_input():
    """`sh -c TEXT`: the text is a constant, or one that only numbers were put into; words come after it as "$@"."""
    for name, tree in trees():
        constants = {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and is_fixed(node.value, set())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            words = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
            for shell, option, text in zip(words, words[1:], words[2:], strict=False):
                if value(shell) in SHELLS and value(option) == "-c":
                    where = f"{name}:{text.lineno}: {ast.unparse(text)}"
                    assert is_fixed(text, constants) or where.split(": ")[1] in READ_ELSEWHERE, where


READ_ELSEWHERE = {
    "script",  # record_node.sh, a file of ours
    "ask",  # one of two constants of a dict
    "find",  # a constant
    "line", "hook",  # inside a pod of our own manifests, made from numbers
    "*command",
}  # fmt: skip


def value(node):
    return node.value if isinstance(node, ast.Constant) else None


def is_fixed(node, constants):
    if isinstance(node, ast.JoinedStr):
        return all(is_fixed(part, constants) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return isinstance(node.value, ast.Call) and dotted(node.value.func) in {"int", "float", "round"}
    if isinstance(node, ast.BinOp):
        return is_fixed(node.left, constants) and is_fixed(node.right, constants)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return isinstance(node, ast.Constant) or name in constants or name.isupper()


def test_only_what_must_speaks_to_the_network():
    """Nothing but the load client, the lab and its calibration opens connections; the model never does."""
    for name, tree in trees():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            speaks = {each.split(".")[0] for each in names} & SPEAKS
            assert not speaks or name in MAY_SPEAK, f"{name}:{node.lineno}: {speaks}"


WATCHED = """
import sys
def watch(event, arguments):
    asks = event in ("socket.getaddrinfo", "socket.gethostbyname")
    if asks or (event in ("socket.connect", "socket.sendto") and isinstance(arguments[-1], tuple)):  # no Unix socket
        print(f"{event} {arguments[-1]}", file=sys.stderr)
        sys.exit(99)
sys.addaudithook(watch)
from sim.cli import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        "init app.yaml -o -",
        "predict small.yaml --runs 2 --json",
        "sweep small.yaml -p load.connections=2,4 --runs 2 -o out.parquet --processes 1",
        "explain idle_closed",
    ],
)
def test_a_prediction_asks_nobody(tmp_path, command):
    """No connection, no name looked up: the process is watched by the interpreter's own audit events."""
    write_scenario(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
