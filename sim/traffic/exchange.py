"""One client connection: thinks, connects, sends, waits, and meets what the world does meanwhile.

While nothing can fail, it cruises: it sleeps until something changes and then draws how many requests it has
finished and what it was doing (pace.py). Around changes every step is an event.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from sim.outcomes import Cause, Failure, Seen
from sim.scenario.timing import Vanished
from sim.traffic import haproxy
from sim.traffic.answers import in_one_batch, service_time, stream_time
from sim.traffic.links import BackendBroken, Failed, Link, LoadOver, Stage, announces_close, closes_idle, hit
from sim.traffic.pace import Moment, Segment
from sim.traffic.routing import SYN_AGAIN_AFTER_S, is_silent, pick, refusal, vanished_answer
from sim.world import Server, ServerPhase

if TYPE_CHECKING:
    from sim.traffic.load import Traffic

Steps = Generator[simpy.Event, Any, None]

MAX_CRUISE_HAZARD = 0.6
"""Above this share of bad targets it is not worth drawing the next hit: requests go one by one."""


class Connection:
    """One of the load's connections, with its own random stream."""

    def __init__(self, traffic: "Traffic", index: int) -> None:
        self.traffic = traffic
        self.index = index
        self.env = traffic.env
        self.rng = traffic.streams.take(f"client/{index}")
        self.source = index % traffic.load.sources
        self.link: Link | None = None
        self.backend: Link | None = None
        """The proxy's connection for this client: for one request, or kept (http-keep-alive)."""
        self._idle = True
        self._idle_since_s = float(self.env.now)
        self._in_backend = False
        self._wake: simpy.Event | None = None
        self._cruise_targets: tuple[Server, ...] = ()
        self._cruising = False
        self.forced: tuple[Server, ...] = ()
        """Targets of which the next connect draws one: the bad ones that a cruise has run into."""
        self._deadline_s = float("inf")
        self._deadline_cause = Cause.SLOW_ANSWER
        self._answering: tuple[Server, ...] = ()
        """The server whose answer is on its way: its length is what ab compares."""

    # ------------------------------------------------------------------ what the world tells

    def on_server(self, server: Server) -> None:
        if self.link is not None and server is self.link.server:
            if self._idle and closes_idle(server):
                self._close_by_server()
            self._poke()
        if self.backend is not None and server is self.backend.server:
            if not self._in_backend and closes_idle(server):
                self.drop_backend()  # HAProxy watches its idle connections
            self._poke()
        elif self._cruising and server in self._cruise_targets:
            self._poke()

    def on_rules(self) -> None:
        if self._cruising:
            self._poke()

    def _poke(self) -> None:
        if self._wake is not None and not self._wake.triggered:
            self._wake.succeed()

    end = _poke

    def _close_by_server(self) -> None:
        assert self.link is not None
        self.link.fin = True
        self.link.server.detach(self.link)

    # ------------------------------------------------------------------ life

    def run(self, first_wait_s: float) -> Steps:
        yield self.env.timeout(first_wait_s)
        while not self.traffic.over:
            moment = None
            if self._quiet():
                moment = yield from self._cruise()
                if self.traffic.over:
                    self.traffic.tally.n_open += int(self._under_way(moment))
                    return
            yield from self._turn(moment)

    def serve(self, resume: "Resume | None") -> Steps:
        """One request of an open loop, at once."""
        if resume is None:
            self._idle_for(float(self.env.now) - self._idle_since_s)
        yield from self._turn(resume, think=False)
        self._idle_since_s = float(self.env.now)

    def settled(self) -> bool:
        """Open loop: idle, and its next request cannot fail while nothing changes."""
        ready = self._idle and self._quiet() and all(s.healthy for s in self._hop_targets())
        return ready and (self.link is None or self.link.server.healthy)

    def calm_targets(self) -> tuple[Server, ...]:
        """Open loop: servers on which a request may be until something changes."""
        return self._hop_targets()

    def met(self, segment: Segment, remaining_s: float, targets: tuple[Server, ...]) -> "Resume":
        """Open loop: a change meets this connection in the middle of a request, on one of *targets*."""
        if self.link is not None and segment.stage is not Stage.READING:
            self.link.fin = False  # it was busy, so the change did not find it idle
            self.link.server.attach(self.link)
        return self._resume(segment, remaining_s, targets)

    def _under_way(self, moment: "Resume | None") -> bool:
        return moment is not None and moment.segment.stage is not Stage.IDLE

    def _turn(self, resume: "Resume | None", *, think: bool = True) -> Steps:
        """One request from its pause to its fate."""
        self._idle = True
        if (
            resume is not None
            and self.link is not None
            and self._idle_at(resume)
            and closes_idle(self.link.server)
        ):
            self._close_by_server()
        if think and (resume is None or resume.segment.stage is Stage.IDLE):
            pause_s = self.traffic.think_s(self.rng) if resume is None else resume.remaining_s
            resume = None
            if pause_s > 0:
                yield self.env.timeout(pause_s)
                self._idle_for(pause_s)
            if self.traffic.over:
                return
        try:
            yield from self._request(resume)
        except LoadOver:
            self.traffic.tally.n_open += 1
        self._idle = True
        self._deadline_s = float("inf")

    def _idle_for(self, pause_s: float) -> None:
        """A pause beyond the server's idle time-out ends the connection under the client."""
        if (
            self.link is not None
            and not self.link.fin
            and pause_s > self.traffic.idle_limit_s(self.link.server)
        ):
            self._close_by_server()
            self.link.timed_out = True

    @staticmethod
    def _idle_at(resume: "Resume") -> bool:
        return resume.segment.stage in (Stage.IDLE, Stage.READING)

    def _request(self, resume: "Resume | None") -> Steps:
        """Attempts until one succeeds or the client gives up."""
        kind, load, tally = self.traffic.kind, self.traffic.load, self.traffic.tally
        n_left = load.retries
        while True:
            reused = self.link is not None and self.link.n_requests > (1 if resume is not None else 0)
            fin_before = self.link is not None and self.link.fin
            try:
                yield from self._attempt(resume)
            except Failed as failed:
                if not failed.keeps_link:
                    self.drop_link()
                repeats = (
                    kind.repeats_on_reused
                    and reused
                    and failed.seen in (Seen.EOF, Seen.RESET)
                    and load.method in ("GET", "HEAD", "OPTIONS", "TRACE")
                )
                if not repeats and n_left == 0:
                    self._fail(failed, reused=reused, fin_before=fin_before)
                    return
                n_left -= 0 if repeats else 1
                tally.n_retried += 1
                resume = None
            else:
                return

    def _fail(self, failed: Failed, *, reused: bool, fin_before: bool) -> None:
        self.traffic.fail(
            Failure(
                at_s=float(self.env.now),
                cause=failed.cause,
                seen=failed.seen,
                reused=reused,
                connection=self.index,
                pod=failed.pod,
                phase="idle" if fin_before else failed.stage.value,
            )
        )

    # ------------------------------------------------------------------ one attempt

    def _attempt(self, resume: "Resume | None") -> Steps:
        load, kind = self.traffic.load, self.traffic.kind
        if self.link is not None and self.link.fin and kind.sees_idle_close:
            self.drop_link()
        if self.link is None:
            yield from self._connect(resume)
            resume = resume if resume is not None and resume.segment.stage is not Stage.CONNECTING else None
        link = self.link
        assert link is not None
        self._idle = False
        if resume is None:
            link.n_requests += 1
        self._deadline_s = float(self.env.now) + load.answer_timeout_s if kind.gives_up else float("inf")
        self._deadline_cause = Cause.SLOW_ANSWER
        if link.fin:
            yield from self.pause(self.traffic.round_trip_s(self.rng))
            cause = Cause.IDLE_TIMEOUT_RACE if link.timed_out else Cause.IDLE_CLOSED
            raise Failed(Seen.EOF, cause, Stage.IDLE, link.server.pod.name)
        try:
            yield from self._answer(link, resume)
        finally:
            if not self._keeps_backend():
                self.drop_backend()
        self._after_answer(link)

    def _answer(self, link: Link, resume: "Resume | None") -> Steps:
        """From the request written to the answer read."""
        stages = [Stage.SENT, Stage.IN_SERVICE, Stage.STREAMING, Stage.READING]
        proxy = self.traffic.proxies.get(link.server)
        self._answering = (link.server,)
        at = resume.segment if resume is not None else None
        if at is None or (at.stage is Stage.SENT and not at.behind_proxy):
            yield from self.spend(Stage.SENT, self._left(resume, Stage.SENT))
        if proxy is not None:
            if at is None or at.stage is not Stage.READING:
                yield from haproxy.handle(self, proxy, resume if at is not None and at.behind_proxy else None)
        else:
            for stage in (Stage.IN_SERVICE, Stage.STREAMING):
                if at is not None and stages.index(at.stage) > stages.index(stage):
                    continue
                here = at is not None and at.stage is stage and resume is not None
                left_s = (
                    resume.remaining_s
                    if here and resume is not None
                    else self._duration_s(stage, link.server)
                )
                if stage is Stage.STREAMING:
                    link.close_announced |= announces_close(link.server) and not here
                yield from self.spend(stage, left_s)
                if stage is Stage.STREAMING and not link.close_announced and closes_idle(link.server):
                    self._idle = True
                    self._close_by_server()
        self._idle = True
        if closes_idle(link.server) and not link.fin and not link.close_announced:
            self._close_by_server()
        reading_s = (
            self._left(resume, Stage.READING)
            if at is None or at.stage is Stage.READING
            else self.traffic.segment_s(Stage.READING, link.server, self.rng)
        )
        if reading_s > 0:
            yield self.env.timeout(reading_s)

    def _left(self, resume: "Resume | None", stage: Stage) -> float:
        if resume is not None and resume.segment.stage is stage:
            return resume.remaining_s
        assert self.link is not None
        return self.traffic.segment_s(stage, self.link.server, self.rng)

    def _duration_s(self, stage: Stage, server: Server) -> float:
        path = self.traffic.load.path
        if stage is Stage.IN_SERVICE:
            return service_time(server, path).draw_s(self.rng)
        return stream_time(server, path).draw_s(self.rng)

    def _after_answer(self, link: Link) -> None:
        self.traffic.count_ok(1, self._answering, since_s=float(self.env.now))
        limit = self.traffic.requests_per_link(link.server)
        if not self.traffic.keeps or link.close_announced or link.n_requests >= limit:
            self.drop_link()

    # ------------------------------------------------------------------ waiting

    def pause(self, duration_s: float) -> Generator[simpy.Event, Any, bool]:
        """Wait; True when the time has passed, False when something changed first.

        Raises
        ------
        Failed
            The client's answer time-out ran out.
        LoadOver
        """
        left_s = self._deadline_s - self.env.now
        self._wake = self.env.event()
        wait_s = min(duration_s, left_s)
        timer = self.env.timeout(max(0.0, wait_s)) if wait_s < float("inf") else None
        yield self._wake if timer is None else timer | self._wake
        woken, self._wake = self._wake.triggered, None
        if self.traffic.over:
            raise LoadOver
        if timer is not None and timer.processed:
            if duration_s > left_s:
                pod = self.link.server.pod.name if self.link else None
                raise Failed(Seen.ANSWER_TIMEOUT, self._deadline_cause, Stage.IN_SERVICE, pod)
            return True
        return not woken

    def waits_for(self, cause: Cause) -> None:
        """What a time-out of the client would be put down to from now on."""
        self._deadline_cause = cause

    def spend(self, stage: Stage, duration_s: float) -> Steps:
        """Pass *duration_s* in *stage*, unless the world ends it. A deaf server makes no progress.

        Raises
        ------
        Failed
            The client's connection broke, or its time-out ran out.
        BackendBroken
            The proxy's connection broke.
        """
        left_s = duration_s
        if stage is Stage.STREAMING and left_s <= 0:
            return  # the answer left in one piece
        while True:
            self._check(stage)
            frozen = self._frozen(stage)
            if not frozen and left_s <= 0:
                return
            began_s = float(self.env.now)
            done = yield from self.pause(float("inf") if frozen else left_s)
            if not frozen:
                left_s = 0.0 if done else left_s - (float(self.env.now) - began_s)

    def _frozen(self, stage: Stage) -> bool:
        links = (self.link, self.backend if self._in_backend else None)
        deaf = [link.server for link in links if link is not None and link.server.phase is ServerPhase.DEAF]
        if stage is Stage.IN_SERVICE:
            deaf = [server for server in deaf if not in_one_batch(server, self.traffic.load.path)]
        return bool(deaf)

    def _check(self, stage: Stage) -> None:
        link = self.link
        assert link is not None
        mine = stage
        if self._in_backend and stage is not Stage.STREAMING:
            mine = Stage.IN_SERVICE
        if (fate := hit(mine, link.server, first=link.n_requests <= 1)) is not None:
            raise Failed(*fate, mine, link.server.pod.name)
        if self._in_backend and self.backend is not None:
            fate = hit(stage, self.backend.server, first=self.backend.n_requests <= 1)
            if fate is not None:
                raise BackendBroken(*fate, stage)

    # ------------------------------------------------------------------ connecting

    def _connect(self, resume: "Resume | None") -> Steps:
        """The client's own connect, through the rules of its node.

        Raises
        ------
        Failed
        """
        traffic, env = self.traffic, self.env
        began_s = float(env.now)
        timeout_s = traffic.load.connect_timeout_s if traffic.kind.gives_up else float("inf")
        self._deadline_s = float("inf")
        if resume is not None and resume.segment.stage is Stage.CONNECTING:
            yield env.timeout(resume.remaining_s)
        elif traffic.keeps or resume is None:
            yield env.timeout(traffic.segment_s(Stage.CONNECTING, None, self.rng))
        else:  # met in the middle of a request of a connection of its own: it is there already
            self.link = self._open(resume.server)
            self.link.n_requests = 1
            return
        spun = False
        for gap_s in (*SYN_AGAIN_AFTER_S, float("inf")):
            server = self._draw()
            if server is None and traffic.kind.spins_on_icmp and gap_s == SYN_AGAIN_AFTER_S[0] and not spun:
                yield from self._spin(gap_s)
                spun = True
                continue
            refused = refusal(server)
            if refused is not None:
                yield from traffic.refuse(self, refused)
                raise Failed(refused.seen, refused.cause, Stage.CONNECTING, refused.pod)
            assert server is not None
            if not is_silent(server):
                self.link = self._open(server)
                return
            answer = vanished_answer(traffic.timing.vanished, forwarded=traffic.forwarded)
            if answer is Vanished.UNREACHABLE:
                raise Failed(Seen.UNREACHABLE, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING, server.pod.name)
            left_s = began_s + timeout_s - float(env.now)
            wait_s = left_s if answer is Vanished.SILENCE_PINNED else min(gap_s, left_s)
            traffic.hangs(+1)
            yield from self.pause(wait_s)
            traffic.hangs(-1)
            if wait_s == left_s:
                raise Failed(
                    Seen.CONNECT_TIMEOUT, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING, server.pod.name
                )

    def _spin(self, until_next_syn_s: float) -> Steps:
        """ICMP in answer to the first SYN is a soft error to Linux: the connect goes on, poll says error.

        ab asks recv, hears "again" and polls anew, as fast as it can, until the next SYN is answered; there the
        same ICMP is a hard error (net/ipv4/tcp_ipv4.c tcp_v4_err; tried on loopback with ab 2.3).
        """
        self.traffic.spins(+1)
        try:
            yield from self.pause(until_next_syn_s)
        finally:
            self.traffic.spins(-1)

    def _draw(self) -> Server | None:
        possible = self.traffic.targets(self.source)
        forced = tuple(s for s in self.forced if s in possible and not s.healthy)
        self.forced = ()
        return pick(forced or possible, self.rng)

    def _open(self, server: Server) -> Link:
        link = Link(server)
        server.attach(link)
        return link

    def drop_link(self) -> None:
        if self.link is not None:
            self.link.server.detach(self.link)
            self.link = None

    # ------------------------------------------------------------------ the proxy's side

    def open_backend(self, server: Server) -> Link:
        self.backend = self._open(server)
        self._answering = (server,)
        return self.backend

    def enter_backend(self, *, inside: bool) -> None:
        self._in_backend = inside

    def drop_backend(self) -> None:
        self._in_backend = False
        if self.backend is not None:
            self.backend.server.detach(self.backend)
            self.backend = None

    def _keeps_backend(self) -> bool:
        self._in_backend = False
        link, backend = self.link, self.backend
        if link is None or backend is None or backend.close_announced or closes_idle(backend.server):
            return False
        return self.traffic.keeps_backends

    # ------------------------------------------------------------------ cruising

    def _quiet(self) -> bool:
        """Whether the next requests can be drawn instead of stepped through."""
        traffic = self.traffic
        if traffic.stepwise or traffic.steady_hazard:
            return False
        if traffic.keeps and (self.link is None or self.link.fin or not self.link.server.healthy):
            return False
        targets = self._hop_targets()
        if not targets:
            return False
        bad = [s for s in targets if not s.healthy]
        return len(bad) / len(targets) <= MAX_CRUISE_HAZARD

    def _hop_targets(self) -> tuple[Server, ...]:
        """Servers that the coming requests meet: by a fresh connect each, or the one link."""
        traffic = self.traffic
        front: tuple[Server, ...]
        if traffic.keeps:
            assert self.link is not None
            front = (self.link.server,)
        else:
            front = traffic.targets(self.source)
        proxies = [traffic.proxies.get(s) for s in front]
        if not any(proxies):
            return front
        if not all(s.healthy for s in front):
            return ()
        if self.backend is not None and self.traffic.keeps_backends:
            return (self.backend.server,)
        return tuple(s for p in proxies if p is not None for s in haproxy.all_targets(p, traffic.world))

    def _cruise(self) -> Generator[simpy.Event, Any, "Resume | None"]:
        env, rng, traffic = self.env, self.rng, self.traffic
        targets = self._hop_targets()
        good = tuple(s for s in targets if s.healthy)
        bad = tuple(s for s in targets if not s.healthy)
        pace = traffic.pace(good[0])
        began_s = float(env.now)
        n_to_hit = int(rng.geometric(len(bad) / len(targets))) - 1 if bad else None
        n_to_close = None
        if traffic.keeps and self.link is not None:
            limit = traffic.requests_per_link(self.link.server) - self.link.n_requests
            n_to_close = int(limit) if limit < float("inf") else None
        n_stop = min((n for n in (n_to_hit, n_to_close) if n is not None), default=None)
        timer = None
        if n_stop is not None and n_stop * pace.mean_s < 2 * traffic.longest_s:
            timer = env.timeout(pace.cycles_s(n_stop, rng))
        self._cruise_targets, self._cruising = targets, True
        self._wake = env.event()
        yield self._wake if timer is None else timer | self._wake
        self._cruising, self._wake = False, None
        if timer is not None and timer.processed and n_stop is not None:
            self._done(n_stop, good, began_s)
            if n_stop == n_to_close:
                self.drop_link()
            else:
                self.forced = bad
            return None
        moment: Moment = pace.after(float(env.now) - began_s, rng)
        n_done = moment.n_done if n_stop is None else min(moment.n_done, max(0, n_stop - 1))
        self._done(n_done, good, began_s)
        segment, remaining_s = pace.segments[moment.segment], moment.remaining_s
        if segment.stage is Stage.READING:
            remaining_s += traffic.client_off_cpu_s()
        return self._resume(segment, remaining_s, good)

    def _done(self, n: int, servers: tuple[Server, ...], since_s: float) -> None:
        self.traffic.count_ok(n, servers, since_s=since_s)
        if self.link is not None:
            self.link.n_requests += n

    def _resume(self, segment: Segment, remaining_s: float, good: tuple[Server, ...]) -> "Resume":
        """Put the connection into the middle of a request, on one of the servers that it could be on."""
        if segment.stage is not Stage.IDLE and self.link is not None:
            self.link.n_requests += 1
        if segment.behind_proxy and segment.stage is not Stage.CONNECTING and self.backend is None:
            backend = self.open_backend(good[int(self.rng.integers(len(good)))])
            backend.n_requests = 1
        front = good if not self.traffic.has_proxy else self.traffic.targets(self.source)
        server = front[int(self.rng.integers(len(front)))] if front else good[0]
        return Resume(segment, remaining_s, server)


class Resume:
    """A request met in the middle: where, for how long still, and on which front server."""

    __slots__ = ("remaining_s", "segment", "server")

    def __init__(self, segment: Segment, remaining_s: float, server: Server) -> None:
        self.segment = segment
        self.remaining_s = remaining_s
        self.server = server
