"""The proxy's side of one client connection: the connection that its request uses, and those it keeps.

`http-keep-alive` keeps one connection for each server line here. HAProxy's pool is one for all clients; what a
stop hits is the same, since only as many of its connections are in use as clients have requests under way.
"""

from typing import TYPE_CHECKING, Final

from sim.proxies import BackendServer, Proxy
from sim.scenario.model import HttpMode
from sim.traffic.links import Link, closes_idle
from sim.world import Server, ServerPhase

if TYPE_CHECKING:
    from sim.traffic.exchange import Connection

_REPEATS_ALL: Final = frozenset({"conn-failure", "empty-response", "response-timeout"})
REUSES_FIRST_IF_IT_REPEATS: Final = (2, 6, 5)
"""From this version on a first request too may use a kept connection, if a broken one is tried again."""


class Hop:
    def __init__(self, conn: "Connection") -> None:
        self._conn = conn
        self.proxy: Proxy | None = None
        self.line: BackendServer | None = None
        """Where the request under way was sent."""
        self.link: Link | None = None
        self.inside = False
        """The request is between proxy and pod."""
        self.waits = False
        """It waits for a server that is not full."""
        self.kept: dict[BackendServer, Link] = {}

    # -- one request

    def enter(self, proxy: Proxy) -> None:
        if self.proxy is not proxy:
            self.drop_all()
            self.proxy = proxy

    def take_line(self, line: BackendServer) -> None:
        self.line = line
        line.n_running += 1

    def leave_line(self) -> None:
        if self.line is None:
            return
        self.line.n_running -= 1
        self.line = None
        if self.proxy is not None and self.proxy.waiting:
            self.proxy.waiting[0].poke()

    def open(self, server: Server) -> Link:
        self.link = self._conn.open_link(server)
        self.link.n_requests = 1
        return self.link

    def reuse(self, line: BackendServer) -> bool:
        """Take the kept connection to *line*, if there is one and the request may use it."""
        assert self.proxy is not None
        link = self.kept.pop(line, None)
        if link is None:
            return False
        if not self._may_reuse(self.proxy) or self._conn.sees_fin(link):
            link.server.detach(link)
            return False
        link.n_requests += 1
        self.link = link
        return True

    def take_kept(self, line: BackendServer) -> bool:
        """As `reuse`, for a request that is under way already."""
        if not self._kept_across_requests():
            return False
        if (link := self.kept.pop(line, None)) is None:
            return False
        link.n_requests += 1
        self.link = link
        return True

    def forget(self, link: Link) -> None:
        """Close a kept connection that has served its requests."""
        for line, kept in list(self.kept.items()):
            if kept is link:
                link.server.detach(self.kept.pop(line))

    def leave(self, *, keep: bool) -> None:
        """The request is over; *keep* its connection if the server will have it."""
        link, line, proxy = self.link, self.line, self.proxy
        self.inside = False
        if link is not None and line is not None and proxy is not None and keep and keeps_backends(proxy):
            usable = not link.close_announced and not link.fin and not closes_idle(link)
            if usable and line not in self.kept:
                self.kept[line], self.link = link, None
                link.idle_since_s = float(self._conn.env.now)
        self.drop()
        self.leave_line()

    def drop(self) -> None:
        self.inside = False
        if self.link is not None:
            self.link.server.detach(self.link)
            self.link = None

    def drop_all(self) -> None:
        self.drop()
        self.leave_line()
        for link in self.kept.values():
            link.server.detach(link)
        self.kept.clear()

    # -- what the world tells

    def on_server(self, server: Server) -> bool:
        """Whether the request under way has to look."""
        if self.proxy is not None and server is self.proxy.server and server.phase is ServerPhase.EXITED:
            for link in self.kept.values():
                link.server.detach(link)
            self.kept.clear()
        self.sweep(server)
        return self.link is not None and self.link.server is server

    def sweep(self, server: Server | None = None) -> None:
        """Kept connections that their server closes now; HAProxy sees the FIN half a round trip later."""
        for link in self.kept.values():
            if server in (None, link.server) and not link.fin and closes_idle(link):
                self._conn.close_link(link)

    def on_rules(self) -> None:
        """A slot whose address DNS has changed loses its pool."""
        for line, link in list(self.kept.items()):
            if line.is_slot and (line.pod is None or link.server not in line.pod.servers.values()):
                link.server.detach(self.kept.pop(line))

    # -- what it may do

    def _kept_across_requests(self) -> bool:
        """A client that closes after each request is at its first one all the time: see `_may_reuse`."""
        assert self.proxy is not None
        return self._conn.traffic.keeps or reuses_first(self.proxy)

    def _may_reuse(self, proxy: Proxy) -> bool:
        """`http-reuse safe`: the first request of a client's connection always opens a new one."""
        assert self._conn.link is not None
        return not self._conn.link.first or reuses_first(proxy)


def keeps_backends(proxy: Proxy) -> bool:
    return proxy.backend.http_mode is HttpMode.KEEP_ALIVE and proxy.backend.http_reuse != "never"


def reuses_first(proxy: Proxy) -> bool:
    repeats = proxy.backend.retry_on >= _REPEATS_ALL and proxy.version >= REUSES_FIRST_IF_IT_REPEATS
    return proxy.backend.http_reuse in ("aggressive", "always") or repeats
