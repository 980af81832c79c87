"""`rollsim lab up | status | down`: reads the options, calls, prints."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from validation.lab import lifecycle
from validation.lab.cluster import DEFAULT_NAME, cache_dir
from validation.lab.network import Vanished
from validation.lab.steps import Steps
from validation.one_line import one_line_errors

EPILOG = """\
Examples

rollsim lab up --nodes 3

rollsim lab status

rollsim lab down
"""

app = typer.Typer(
    help="A real kind cluster on this machine, to hold predictions against.",
    no_args_is_help=True,
    epilog=EPILOG,
)

INTERRUPTED = "`rollsim lab up` goes on from here, `down` removes it"
Name = Annotated[str, typer.Option(help="Name of the kind cluster.")]


def _steps() -> Steps:
    return Steps(Console(stderr=True, soft_wrap=True), cache_dir() / "logs")


@app.command()
def up(
    *,
    airgap: Annotated[
        bool, typer.Option("--airgap", help="Build all from Debian packages and Go modules, registry or not.")
    ] = False,
    nodes: Annotated[int, typer.Option(min=1, max=9, help="Nodes; all of them take pods.")] = 1,
    vanished: Annotated[
        Vanished | None,
        typer.Option(
            help="What a vanished pod's address answers; a running cluster is changed.  [new: pinned]"
        ),
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="Registry with copies of Docker Hub's images, e.g. 127.0.0.1:5000.")
    ] = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Bring the cluster up; what is built already is used again."""
    with one_line_errors("rollsim lab", interrupted=INTERRUPTED):
        lab = lifecycle.up(
            _steps(), name=name, n_nodes=nodes, vanished=vanished, airgap=airgap, mirror=registry
        )
        typer.echo(f"cluster {lab.name} is up: kubectl --kubeconfig {lab.kubeconfig} get nodes")


@app.command()
def status(
    name: Annotated[
        str | None, typer.Option(help="Name of the kind cluster.  [default: any of ours]")
    ] = None,
) -> None:
    """Show what runs."""
    with one_line_errors("rollsim lab", interrupted=INTERRUPTED):
        found = lifecycle.status(name)
        table = Table(show_header=False, box=None)
        rows = {
            "cluster": found.name,
            "nodes": ", ".join(f"{node} {state}" for node, state in found.nodes.items()),
            "Kubernetes": f"{found.kubernetes}, kube-proxy {found.kube_proxy_mode}, image {found.image}",
            "vanished pod": found.vanished.value if found.vanished else "not set: rollsim lab up",
            "packets": _packets(found),
            "load client": found.load_container,
            "kubeconfig": found.kubeconfig,
        }
        for label, value in rows.items():
            table.add_row(f"[dim]{label}[/]", value)
        Console(soft_wrap=True, highlight=False).print(table)


def _packets(found: lifecycle.Status) -> str:
    if found.rejected_packets is None:
        return "NOT CONFINED to this machine: rollsim lab up"
    return f"{found.escaped_packets} left this machine, {found.rejected_packets} rejected on their way out"


@app.command()
def down(name: Name = DEFAULT_NAME) -> None:
    """Take the cluster down; only the cache stays."""
    with one_line_errors("rollsim lab", interrupted=INTERRUPTED):
        lifecycle.down(_steps(), name=name)


if __name__ == "__main__":
    app()
