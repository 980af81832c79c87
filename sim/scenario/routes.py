"""Who reaches whom: that the load's Service and every proxy's servers lead to pods."""

from collections.abc import Iterator, Mapping

from sim.errors import InputError, UnsupportedInput
from sim.scenario.durations import shown
from sim.scenario.manifests import selects
from sim.scenario.model import Container, Deployment, HAProxyServer, Scenario, Service


def check_routes(scenario: Scenario, where: str) -> None:
    """Follow the requests from the load to the last pods.

    Raises
    ------
    InputError
        A Service that selects no pods; a proxy's server that is no Service, or a port that it does not have.
    """
    services = {service.name: service for service in scenario.services}
    needed = {scenario.load.service: scenario.load.port}
    for deployment in (*scenario.deployments, *(update.to for update in scenario.updates)):
        for container in deployment.template.containers:
            for backend, server in _servers(container):
                place = f"{where}: Deployment {deployment.name}: haproxy.cfg: {backend}: server {server.name}"
                service = _service_of(server, services, place)
                needed[service.name] = server.port
    for name in needed:
        if not any(selects(services[name].selector, found.template.labels) for found in scenario.deployments):
            raise InputError(
                f"{where}: Service {name}: spec.selector: got {shown(dict(services[name].selector))}, "
                f"which matches the pods of no Deployment ({_labels(scenario.deployments)})"
            )


def _servers(container: Container) -> Iterator[tuple[str, HAProxyServer]]:
    for backend in container.haproxy.backends if container.haproxy is not None else ():
        for server in backend.servers:
            yield backend.name, server


def _service_of(server: HAProxyServer, services: Mapping[str, Service], place: str) -> Service:
    name = service_of_host(server.host, services)
    if name is None:
        known = ", ".join(services) or "none"
        raise UnsupportedInput(
            f"{place}: got host {shown(server.host)}, expected a Service of the manifests ({known})"
        )
    service = services[name]
    ports = [port.port for port in service.ports]
    if server.template_count is None and not service.headless and server.port not in ports:
        raise InputError(
            f"{place}: got port {server.port}, expected a port of Service {name} "
            f"({', '.join(map(str, ports))})"
        )
    if service.headless and server.template_count is None:
        raise UnsupportedInput(
            f"{place}: not modelled: Service {name} is headless and the name is resolved once, at the start; "
            "use server-template with resolvers"
        )
    return service


def service_of_host(host: str, services: Mapping[str, Service]) -> str | None:
    """The Service that *host* names: NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc[.cluster.local]."""
    labels = [label for label in host.rstrip(".").split(".") if not label.startswith("_")]
    local = labels[2:] in ([], ["svc"], ["svc", "cluster", "local"])
    return labels[0] if labels and local and labels[0] in services else None


def _labels(deployments: tuple[Deployment, ...]) -> str:
    return ", ".join(f"{found.name}: {shown(dict(found.template.labels))}" for found in deployments)
