"""Who reaches whom: that the load's Service and every proxy's servers lead to pods that listen."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sim.errors import InputError, UnsupportedInput
from sim.scenario.durations import shown
from sim.scenario.manifests import selects
from sim.scenario.model import Container, Deployment, HAProxyServer, Scenario, Service, ServicePort


def check_routes(scenario: Scenario, where: str) -> None:
    """Follow the requests from the load to the last pods.

    Raises
    ------
    InputError
        A Service that selects no pods or sends to a port where none of their servers listens; a proxy's
        server that is no Service, or a port that it does not have.
    """
    services = {service.name: service for service in scenario.services}
    deployments = (*scenario.deployments, *(update.to for update in scenario.updates))
    needed = {(scenario.load.service, scenario.load.port)}
    for deployment in deployments:
        for backend, server in _servers(deployment):
            place = f"{where}: Deployment {deployment.name}: haproxy.cfg: {backend}: server {server.name}"
            needed.add((_service_of(server, services, place).name, server.port))
    for name, port in sorted(needed):
        service = services[name]
        behind = [found for found in deployments if selects(service.selector, found.template.labels)]
        if not behind:
            raise InputError(
                f"{where}: Service {name}: spec.selector: got {shown(dict(service.selector))}, "
                f"which matches the pods of no Deployment ({_labels(scenario.deployments)})"
            )
        for deployment in behind:
            target = next((entry for entry in service.ports if entry.port == port), None)
            _check_listening(deployment, port if target is None else target, f"{where}: Service {name}")


def with_reached_frontend(deployment: Deployment, services: tuple[Service, ...]) -> Deployment:
    """The same with each HAProxy's one frontend that a Service sends to; the others get no request.

    Raises
    ------
    UnsupportedInput
        Services send to several frontends of one HAProxy.
    """
    labels = deployment.template.labels
    ports = {p.target_port for s in services if selects(s.selector, labels) for p in s.ports}
    containers = tuple(
        _reached(deployment.name, container, ports) for container in deployment.template.containers
    )
    return replace(deployment, template=replace(deployment.template, containers=containers))


def _reached(deployment: str, container: Container, ports: set[int | str]) -> Container:
    conf = container.haproxy
    if conf is None:
        return container
    numbers = {container.ports.get(port, port) if isinstance(port, str) else port for port in ports}
    found = tuple(frontend for frontend in conf.frontends if numbers & set(frontend.binds))
    if len(found) > 1:
        names = ", ".join(frontend.name for frontend in found)
        raise UnsupportedInput(
            f"Deployment {deployment}: haproxy.cfg: not modelled: Services send to several frontends of one HAProxy "
            f"({names}); take the others out"
        )
    return replace(container, haproxy=replace(conf, frontends=found)) if found else container


def serves(container: Container, port: int | str) -> bool | None:
    """Whether *container* listens on *port* (a number or the name of one); None: only its image knows."""
    if isinstance(port, str):
        return port in container.ports
    if container.nginx is not None:
        return port in {listen.port for listen in container.nginx.listens}
    if container.haproxy is not None:
        return any(port in frontend.binds for frontend in container.haproxy.frontends)
    return None


def _check_listening(deployment: Deployment, target: ServicePort | int, place: str) -> None:
    port = target if isinstance(target, int) else target.target_port
    containers = deployment.template.containers
    if any(serves(container, port) in (True, None) for container in containers):
        return
    there = "; ".join(f"{container.name}: {_ports_of(container)}" for container in containers)
    raise InputError(
        f"{place}: targetPort: got {port}, but no container of Deployment {deployment.name} listens there "
        f"({there})"
    )


def _ports_of(container: Container) -> str:
    numbers = {listen.port for listen in container.nginx.listens} if container.nginx is not None else set()
    if container.haproxy is not None:
        numbers = {number for frontend in container.haproxy.frontends for number in frontend.binds}
    return ", ".join(dict.fromkeys([*map(str, sorted(numbers)), *container.ports])) or "none"


def _servers(deployment: Deployment) -> Iterator[tuple[str, HAProxyServer]]:
    for container in deployment.template.containers:
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
    if service.headless and server.template_count is None:
        raise UnsupportedInput(
            f"{place}: not modelled: Service {name} is headless, and one line follows one address of it; "
            "use server-template with resolvers"
        )
    if server.template_count is not None and not service.headless:
        raise UnsupportedInput(
            f"{place}: not modelled: server-template over Service {name}, which has one address; "
            "make it headless (clusterIP: None)"
        )
    ports = [port.port for port in service.ports]
    if not service.headless and server.port not in ports:
        known = ", ".join(map(str, ports))
        raise InputError(f"{place}: got port {server.port}, expected a port of Service {name} ({known})")
    return service


def service_of_host(host: str, services: Mapping[str, Service]) -> str | None:
    """The Service that *host* names: NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc[.cluster.local]."""
    labels = [label for label in host.rstrip(".").split(".") if not label.startswith("_")]
    local = labels[2:] in ([], ["svc"], ["svc", "cluster", "local"])
    return labels[0] if labels and local and labels[0] in services else None


def _labels(deployments: tuple[Deployment, ...]) -> str:
    return ", ".join(f"{found.name}: {shown(dict(found.template.labels))}" for found in deployments)
