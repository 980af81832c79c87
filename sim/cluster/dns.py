"""CoreDNS for headless Services: the ready pods, as its informer has them.

Source: coredns v1.12 plugin/kubernetes/object/endpoint.go (endpoints that are not ready are left out; there is no
fallback to terminating ones). kubeadm's Corefile switches the cache off for the cluster domain
(cmd/kubeadm/app/phases/addons/dns/manifests.go:180-188).
"""

from functools import partial

import simpy

from sim.cluster.api import Api, EndpointSliceView
from sim.delays import Delays
from sim.world import Pod, World


class Dns:
    def __init__(self, env: simpy.Environment, world: World, api: Api, delays: Delays) -> None:
        self._env = env
        self._world = world
        self._slices: dict[str, EndpointSliceView] = {}
        api.watch(EndpointSliceView, "coredns", delays, self.adopt, wants=self._answers_with)

    def _answers_with(self, view: EndpointSliceView) -> bool:
        """A Service with an address of its own is answered by that, whatever its endpoints are."""
        return self._world.services[view.service].headless

    def adopt(self, view: EndpointSliceView) -> None:
        if self._answers_with(view):
            self._slices[view.service] = view
            self._world.publish_dns(view.service, partial(self.resolve, view.service))

    def resolve(self, service: str) -> tuple[Pod, ...]:
        """The addresses in the answer; none: the name does not exist."""
        return tuple(self._world.pods[e.pod] for e in self._slices[service].endpoints if e.ready)
