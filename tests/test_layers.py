"""Who may know whom: the layers of the package, and that looking at it costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sim

PACKAGE = Path(sim.__file__).parent
HEAVY = ("simpy", "numpy", "pandas", "matplotlib", "scipy", "yaml", "crossplane", "typer", "rich", "IPython")


def imported(file):
    """Modules that *file* imports anywhere, also inside functions and under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def reaches(start, *, inside=("sim",)):
    """Modules of the package that importing *start* loads, and everything that they import."""
    seen, todo = set(), [start]
    while todo:
        name = todo.pop()
        file = PACKAGE.parent.joinpath(*name.split("."))
        path = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        if name in seen or not path.is_file():
            seen.add(name)
            continue
        seen.add(name)
        todo += [other for other in imported(path) if other.split(".")[0] in inside]
        seen |= imported(path)
    return seen


def modules(folder):
    return [
        ".".join(("sim", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in sorted((PACKAGE / folder).rglob("*.py"))
    ]


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("scenario", "simpy"),
        ("scenario", "sim.cluster"),
        ("scenario", "sim.traffic"),
        ("traffic", "sim.cluster"),
        ("cluster", "sim.traffic"),
        ("cluster", "sim.simulate"),
        ("traffic", "sim.simulate"),
    ],
)
def test_a_layer_never_knows(folder, never):
    """Not even through a third module."""
    guilty = {
        module: sorted(name for name in reaches(module) if name == never or name.startswith(f"{never}."))
        for module in modules(folder)
    }
    assert {module: names for module, names in guilty.items() if names} == {}


def test_the_meeting_points_know_neither_side():
    """World, servers, proxies, outcomes and streams are below both layers."""
    for module in ("sim.world", "sim.servers", "sim.proxies", "sim.delays", "sim.outcomes", "sim.streams"):
        assert not [name for name in reaches(module) if name.startswith(("sim.cluster", "sim.traffic"))], (
            module
        )


def test_the_check_sees_an_import():
    """The check above can fail: the simulation does know both layers, and SimPy."""
    assert {"simpy", "sim.cluster.control_plane", "sim.traffic.load"} <= reaches("sim.simulate")


@pytest.mark.parametrize("module", ["sim", "sim.errors", "sim.outcomes"])
def test_importing_is_light(module):
    """`import sim` (a script's first line, a shell's completion) loads no library."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == []


def test_every_public_name_is_there():
    """Names that are looked up late exist, and nothing else does."""
    for name in sim.__all__:
        assert getattr(sim, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sim.nothing  # noqa: B018
