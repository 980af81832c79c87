"""CoreDNS for headless Services: the ready pods, as its informer has them.

Source: kubeadm's Corefile switches the cache off for the cluster domain (cmd/kubeadm/app/phases/addons/dns);
the kubernetes plugin answers with ready endpoints.
"""

from functools import partial

import simpy

from sim.cluster.api import Api, EndpointSliceView
from sim.cluster.kube_proxy import chosen
from sim.delays import Delays
from sim.world import Pod, World


class Dns:
    def __init__(self, env: simpy.Environment, world: World, api: Api, delays: Delays) -> None:
        self._env = env
        self._world = world
        self._slices: dict[str, EndpointSliceView] = {}
        api.watch(EndpointSliceView, delays, self.adopt)

    def adopt(self, view: EndpointSliceView) -> None:
        self._slices[view.service] = view
        self._world.publish_dns(view.service, partial(self.resolve, view.service))

    def resolve(self, service: str) -> tuple[Pod, ...]:
        return tuple(self._world.pods[name] for name in chosen(self._slices[service].endpoints))
