"""How long an answer takes inside a server: until its header leaves, and from first to last byte."""

from dataclasses import dataclass

from sim.scenario.distributions import Constant, Distribution
from sim.scenario.model import NginxConf, NginxLocation
from sim.scenario.nginx_location import location_of, stream_for_s
from sim.world import Server

HEADER_BYTES = 240
"""Size of nginx's answer header for a static file; it counts for limit_rate."""


def location_for(server: Server, path: str) -> NginxLocation:
    """nginx's choice on the port that Services send to: an exact match, else the longest prefix."""
    conf = server.container.nginx
    assert conf is not None
    return location_of(conf, path, _port_of(server, conf))


def _port_of(server: Server, conf: NginxConf) -> int | None:
    """The one listening port that Services send to; None: several, or one that only the image knows."""
    listens = {listen.port for listen in conf.listens}
    wanted = {port.target_port for service in server.world.services.values() for port in service.ports}
    named = server.container.ports
    numbers = {named.get(port, -1) if isinstance(port, str) else port for port in wanted}
    reached = listens & numbers
    return reached.pop() if len(reached) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one server answers one path."""

    service: Distribution
    """Request read to header sent."""
    stream: Distribution
    """First to last byte of the answer."""
    in_one_batch: bool
    """The server reads the request and answers it without going back to its event loop.

    nginx with a file: a fast stop finishes the event batch already read (ngx_process_cycle.c:723), so such a
    request is never cut between its reading and its answer.
    """
    longest_gap_s: float
    """The longest time in the middle of the answer without a byte of it. [s]"""

    @property
    def mean_s(self) -> float:
        return self.service.mean_s + self.stream.mean_s


def answer_of(server: Server, path: str) -> Answer:
    """From the image, unless nginx's configuration delays or slows the answer."""
    image = server.image
    if server.container.nginx is None:
        return Answer(
            service=image.service_time, stream=image.stream_time, in_one_batch=False, longest_gap_s=0.0
        )
    place = location_for(server, path)
    stream_s = stream_for_s(place, image.body_bytes + HEADER_BYTES)
    return Answer(
        service=Constant(value_s=place.header_delay_s) if place.header_delay_s else image.service_time,
        stream=Constant(value_s=stream_s) if stream_s else image.stream_time,
        in_one_batch=place.header_delay_s == 0,
        longest_gap_s=place.body_delay_s,
    )
