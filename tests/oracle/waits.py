"""Where a connection waits, in steady state: at its client, on the way to the front server, on the way to the pod.

A client without pause is held up by the CPU that all share. Source: mean value analysis of a closed network with one
queue (Lazowska et al., Quantitative System Performance, ch. 6).
"""

from collections.abc import Mapping, Sequence

from oracle.mirror import Host, Proxy
from oracle.proxied import keeps as keeps_backends

from sim.scenario.distributions import Constant, Distribution, Exponential
from sim.scenario.model import ClosedLoop, Load, OpenLoop, Scenario
from sim.scenario.timing import Timing


class Waits:
    def __init__(
        self,
        fronts: Sequence[Host],
        behind: Mapping[Proxy, Sequence[Host]],
        scenario: Scenario,
        timing: Timing,
        *,
        keeps: bool,
    ) -> None:
        """*fronts* are what the client connects to, *behind* whom the proxies among them send to."""
        self._load: Load = scenario.load
        self._timing = timing
        self._cores = scenario.cluster.cores
        self._client_is_here = scenario.cluster.client_on_node
        self._n_fronts = len(fronts)
        self._keeps = keeps
        self._has_proxy = bool(behind)
        self._keeps_backends = any(keeps_backends(proxy) for proxy in behind)
        proxies = {proxy.host for proxy in behind}
        apps = [front for front in fronts if front not in proxies]
        apps += [host for hosts in behind.values() for host in hosts]
        self._apps = list(dict.fromkeys(apps))
        self.sent: Distribution = timing.round_trip
        self.backend_sent: Distribution = timing.round_trip
        self.read: Distribution = timing.client_overhead.get(self._load.client, Constant(value_s=0.0))
        if isinstance(self._load.arrivals, ClosedLoop) and self._load.arrivals.think_time is None:
            self.share_the_cpu()
        self.cycle_s = self._mean_cycle_s()

    def _cpu_s(self) -> tuple[float, float, float]:
        """What one request costs the client, the app and the proxy; a connect costs both of its ends. [s]"""
        cpu = self._timing.request_cpu_s
        client_s = cpu.get(self._load.client, cpu["ab"])
        app_s = cpu[self._apps[0].server.image.server.value if self._apps else "nginx"]
        proxy_s = cpu["haproxy"] if self._has_proxy else 0.0
        if not self._keeps:
            client_s += cpu["connect"]
        if not (self._keeps_backends if self._has_proxy else self._keeps):
            app_s += cpu["connect"]
            proxy_s += cpu["connect"] if self._has_proxy else 0.0
        return client_s, app_s, proxy_s

    def share_the_cpu(self, *, connect_waits_s: float = 0.0) -> None:
        """The slowest of what is not shared, or all cores together, holds the others up."""
        client_s, app_s, proxy_s = self._cpu_s()
        work_s = client_s + app_s + proxy_s
        slowest_s = max(
            client_s,
            work_s / self._cores,
            app_s / max(1, len(self._apps)),
            proxy_s / max(1, self._n_fronts * self._cores),
        )
        delay_s = connect_waits_s + (self._apps[0].mean_s if self._apps else 0.0)
        queued, cycle_s = 0.0, 0.0
        for n in range(1, self._load.connections + 1):
            at_queue_s = slowest_s * (1 + queued)  # who arrives sees what n - 1 leave behind
            cycle_s = delay_s + work_s - slowest_s + at_queue_s
            queued = n * at_queue_s / cycle_s
        waiting_s = cycle_s - delay_s
        front_s, backend_s = (proxy_s, app_s) if self._has_proxy else (app_s, 0.0)
        self.sent = Exponential(scale_s=waiting_s * front_s / work_s)
        self.backend_sent = Exponential(scale_s=waiting_s * backend_s / work_s)
        self.read = Exponential(scale_s=waiting_s * client_s / work_s)

    def _mean_cycle_s(self) -> float:
        """From one request of a connection to its next. [s]"""
        if not self._apps:
            return 0.01
        arrivals, connect_s = self._load.arrivals, self._timing.round_trip.mean_s
        cycle_s = self.sent.mean_s + self.read.mean_s
        cycle_s += sum(host.mean_s for host in self._apps) / len(self._apps)
        if isinstance(arrivals, ClosedLoop) and arrivals.think_time is not None:
            cycle_s += arrivals.think_time.mean_s
        if not self._keeps:
            cycle_s += connect_s
        if self._has_proxy:
            cycle_s += self.backend_sent.mean_s + (0.0 if self._keeps_backends else connect_s)
        return cycle_s

    @property
    def utilisation(self) -> float:
        """Share of the node's cores that the load takes."""
        client_s, app_s, proxy_s = self._cpu_s()
        every_s = self.cycle_s / self._load.connections
        if isinstance(self._load.arrivals, OpenLoop):
            every_s = 1 / self._load.arrivals.rate_per_s
        here_s = app_s + proxy_s + (client_s if self._client_is_here else 0.0)
        woken_s = self._timing.request_cpu_s["wakeups"] * (1 + self._has_proxy)
        woken = min(woken_s / every_s, self._timing.wakeups_cores)
        return (here_s / every_s + woken) / self._cores
