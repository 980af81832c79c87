"""One client connection: thinks, connects, sends, waits, and meets what the world does meanwhile.

While nothing can fail it cruises (cruise.py). Around changes every step is an event.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import simpy

from sim.outcomes import Cause, Failure, Seen
from sim.proxies import Proxy
from sim.scenario.timing import Vanished
from sim.traffic import haproxy
from sim.traffic.clients import IDEMPOTENT
from sim.traffic.cruise import Cruise, Resume
from sim.traffic.hop import Hop
from sim.traffic.keepalive import min_idle_s
from sim.traffic.links import (
    BackendBroken,
    Failed,
    HungAtTheEnd,
    Link,
    LoadOver,
    Stage,
    closes_idle,
    ends_its_pass,
    hit,
    is_read_in_last_pass,
)
from sim.traffic.routing import (
    SYN_AGAIN_AFTER_S,
    SYN_GIVES_UP_AFTER_S,
    Way,
    is_silent,
    pick,
    pick_way,
    refusal,
)
from sim.waiting import NEVER, Nap
from sim.world import Server, ServerPhase

if TYPE_CHECKING:
    from sim.traffic.load import Traffic

Steps = Generator[simpy.Event, Any, None]
_DIRECT: Final = (Stage.IN_SERVICE, Stage.STREAMING)
_UNANSWERED: Final = (Seen.CONNECT_TIMEOUT, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING)
_UNANSWERED_BEHIND: Final = (Seen.ANSWER_TIMEOUT, Cause.PROXY_CONNECT_WAIT, Stage.IN_SERVICE)


class Connection:
    """One of the load's connections, with its own random stream."""

    def __init__(self, traffic: "Traffic", index: int) -> None:
        self.traffic = traffic
        self.index = index
        self.env = traffic.env
        self.rng = traffic.streams.take(f"client/{index}")
        self.source = index % traffic.load.sources
        self.link: Link | None = None
        self.hop = Hop(self)
        self.cruise = Cruise(self)
        self._steered: tuple[int, tuple[Way, ...]] = (0, ())
        """(rules at the time, ways): see `steer`."""
        self.idle_since_s = float(self.env.now)
        self.is_idle = True
        self.old_port: Server | None = None
        """Where connection tracking sends the next connect, whatever the rules say (old_ports.py)."""
        self.hangs = False
        """It waits for an address that does not answer."""
        self._unheard = False
        self.nap = Nap(self.env)
        """What it waits in, between two steps."""
        self._deadline_s = NEVER
        self._deadline_cause = Cause.SLOW_ANSWER
        self._answered_by: Server | None = None

    # ------------------------------------------------------------------ what the world tells

    def on_server(self, server: Server) -> None:
        if self.cruise.under_way:
            if self.cruise.concerns(server):
                self.cruise.meet()
                self.poke()
            return
        looks = self.hop.on_server(server)
        if self.link is not None and server is self.link.server:
            if self.is_idle and not self.link.fin and closes_idle(self.link):
                self.close_link(self.link)
            looks = True
        if looks:
            self.poke()

    def on_rules(self) -> None:
        if self.cruise.follows_rules:
            self.look()
        elif self.hop.waits:
            self.poke()
        self.hop.on_rules()

    def look(self) -> None:
        """Find out where it is by now, though nothing has changed."""
        if self.cruise.under_way:
            self.cruise.meet()
            self.poke()

    def retune(self) -> None:
        """The pace of all connections has changed."""
        if self.cruise.under_way and not self.cruise.retune():
            self.look()

    def poke(self) -> None:
        self.nap.wake()

    def close_link(self, link: Link) -> None:
        """The server closes an idle connection: at once, unless nginx holds it for too young."""
        wait_s = min_idle_s(link.server) - (float(self.env.now) - link.idle_since_s)
        if wait_s > 0 and link.server.phase is ServerPhase.DRAINING:
            self.env.process(self._close_later(link, wait_s))
        else:
            self._send_fin(link)

    def _send_fin(self, link: Link) -> None:
        link.fin, link.fin_s = True, float(self.env.now)
        link.server.detach(link)

    def _close_later(self, link: Link, wait_s: float) -> Steps:
        idle_since_s = link.idle_since_s
        yield self.env.timeout(wait_s)
        busy = link is self.link and not self.is_idle
        if not (busy or link.fin) and link.idle_since_s == idle_since_s and link is not self.hop.link:
            self._send_fin(link)  # not close_link: a rest of 1e-17 s would wait for ever at the same instant

    def found_idle(self, since_s: float) -> None:
        """A change finds the connection idle since *since_s*: its server may close it."""
        self.hop.sweep()
        if self.link is not None and not self.link.fin:
            self.link.idle_since_s = since_s
            if closes_idle(self.link):
                self.close_link(self.link)

    def steer(self, ways: Sequence[Way]) -> None:
        """The next request takes one of *ways*, unless the rules change before: a cruise has drawn that much."""
        self._steered = (self.traffic.n_rules, tuple(ways))

    def steered(self) -> tuple[Way, ...]:
        """The ways that are left to the next request; empty: all that there are."""
        n_rules, ways = self._steered
        return ways if n_rules == self.traffic.n_rules else ()

    def sees_fin(self, link: Link) -> bool:
        """Whether who watches *link* has its server's FIN by now: half a round trip after it left."""
        return link.fin and float(self.env.now) - link.fin_s >= self.traffic.round_trip_s(self.rng) / 2

    # ------------------------------------------------------------------ life

    def run(self, first_wait_s: float) -> Steps:
        yield self.env.timeout(first_wait_s)
        while not self.traffic.over:
            resume = None
            if ways := self.cruise.ways():
                resume = yield from self.cruise.run(ways)
                if self.traffic.over:
                    self.traffic.tally.n_open += int(resume is not None and resume.stage is not Stage.IDLE)
                    break
            yield from self._turn(resume)
        self.hang_up()

    def serve(self, resume: Resume | None) -> Steps:
        """One request of an open loop, at once."""
        if resume is None:
            self._idle_for(float(self.env.now) - self.idle_since_s)
        yield from self._turn(resume, think=False)
        self.idle_since_s = float(self.env.now)

    def hang_up(self) -> None:
        self.drop_link()
        self.hop.drop_all()

    def _turn(self, resume: Resume | None, *, think: bool = True) -> Steps:
        """One request from its pause to its fate."""
        self.is_idle = True
        if think and (resume is None or resume.stage is Stage.IDLE):
            pause_s = self.traffic.request_cycle.think_s(self.rng) if resume is None else resume.remaining_s
            if pause_s > 0:
                yield self.env.timeout(pause_s)
                self._idle_for(pause_s if resume is None else resume.elapsed_s + pause_s)
            if self.traffic.over:
                return
        if resume is not None and resume.stage is Stage.IDLE:
            resume = None
        try:
            yield from self._request(resume)
        except HungAtTheEnd as hung:
            reused = self.link is not None and self.link.n_requests > 1
            failure = self._failure(hung.failed, reused=reused, fin_before=False)
            self.traffic.tally.failures.append(replace(failure, at_s=self.traffic.ended_s))
            self.hang_up()
        except LoadOver:
            self.traffic.tally.n_open += 1
            self.hang_up()
        self.is_idle = True
        self._deadline_s = NEVER

    def _idle_for(self, pause_s: float) -> None:
        """A pause beyond the server's idle time-out ends the connection under the client."""
        link = self.link
        if link is None or link.fin:
            return
        limit_s = self.traffic.idle_limit_s(link.server)
        if pause_s > limit_s:
            self.close_link(link)
            link.timed_out, link.fin_s = True, float(self.env.now) - (pause_s - limit_s)

    def _request(self, resume: Resume | None) -> Steps:
        """Attempts until one succeeds or the client gives up."""
        kind, load, tally = self.traffic.kind, self.traffic.load, self.traffic.tally
        n_left = load.retries
        began_s = float(self.env.now)
        while True:
            if self.link is not None and kind.sees_idle_close and self.sees_fin(self.link):
                self.drop_link()
            reused = self.link is not None and self.link.n_requests > (0 if resume is None else 1)
            fin_before = self.link is not None and self.link.fin
            try:
                yield from self._attempt(resume)
            except Failed as failed:
                link = self.link
                if not failed.keeps_link or link is None or not self.traffic.keeps or link.close_announced:
                    self.drop_link()
                repeats = (
                    kind.repeats_on_reused
                    and reused
                    and failed.seen in (Seen.EOF, Seen.RESET)
                    and load.method in IDEMPOTENT
                )
                if not repeats and n_left == 0:
                    self._fail(failed, reused=reused, fin_before=fin_before)
                    return
                n_left -= 0 if repeats else 1
                tally.n_retried += 1
                resume = None
            else:
                tally.n_late += int(float(self.env.now) - began_s > load.answer_timeout_s)
                return

    def _fail(self, failed: Failed, *, reused: bool, fin_before: bool) -> None:
        self.traffic.fail(self._failure(failed, reused=reused, fin_before=fin_before), self.source)

    def _failure(self, failed: Failed, *, reused: bool, fin_before: bool) -> Failure:
        return Failure(
            at_s=float(self.env.now),
            cause=failed.cause,
            seen=failed.seen,
            reused=reused,
            connection=self.index,
            pod=failed.pod,
            phase="idle" if fin_before else failed.stage.value,
        )

    # ------------------------------------------------------------------ one attempt

    def _attempt(self, resume: Resume | None) -> Steps:
        load, kind = self.traffic.load, self.traffic.kind
        if self.link is None:
            yield from self._connect(resume)
            resume = None
        link = self.link
        assert link is not None
        self.is_idle = False
        if resume is None:
            link.n_requests += 1
            idle_s = float(self.env.now) - link.idle_since_s
            link.young = not link.first and idle_s < min_idle_s(link.server)
        self._deadline_s = float(self.env.now) + load.answer_timeout_s if kind.gives_up else NEVER
        self._deadline_cause = Cause.SLOW_ANSWER
        if link.fin and (resume is None or not resume.is_idle):
            yield from self.wait(self.traffic.round_trip_s(self.rng))
            cause = Cause.IDLE_TIMEOUT_RACE if link.timed_out else Cause.IDLE_CLOSED
            raise Failed(Seen.EOF, cause, Stage.IDLE, link.server.pod.name)
        answered = False
        try:
            yield from self._answer(link, resume)
            answered = True
        except Failed as failed:
            if failed.keeps_link:  # an answer, if not the one wanted
                self.hop.leave(keep=False)
                link.close_announced |= self.traffic.says_close(link, built_now=True)
                self.is_idle = True
                yield from self._read(self.traffic.request_cycle.client_segment_s(Stage.READING, self.rng))
            raise
        finally:
            self.hop.leave(keep=answered)
        assert self._answered_by is not None
        self.traffic.count_ok(1, (Way(1.0, link.server, self._answered_by),), since_s=float(self.env.now))
        if not self.traffic.keeps or link.close_announced:
            self.drop_link()

    def _answer(self, link: Link, resume: Resume | None) -> Steps:
        """From the request written to the answer read."""
        stage = None if resume is None else resume.stage
        behind = resume is not None and resume.behind_proxy
        proxy = self.traffic.proxies.get(link.server)
        if stage is None or (stage is Stage.SENT and not behind):
            sent_s = (
                self.traffic.request_cycle.client_segment_s(Stage.SENT, self.rng)
                if resume is None
                else resume.remaining_s
            )
            yield from self.spend(Stage.SENT, sent_s, met=resume is not None)
        if stage is not Stage.READING:
            if proxy is not None:
                yield from haproxy.handle(self, proxy, resume if behind else None)
            else:
                yield from self._serve(link, resume if stage in _DIRECT else None)
        self._answered_by = link.server if resume is None else resume.way.target
        if self.hop.link is not None:
            self._answered_by = self.hop.link.server
        self.is_idle = True
        if stage is not Stage.READING:
            link.idle_since_s = float(self.env.now)
            if not link.close_announced and closes_idle(link) and not link.fin:
                self.close_link(link)
        if resume is not None and stage is Stage.READING:
            waits_s = 0.0 if link.server.healthy else self._off_cpu_s()
            yield from self._read(resume.remaining_s + waits_s, waited=True)
        else:
            yield from self._read(self.traffic.request_cycle.client_segment_s(Stage.READING, self.rng))

    def _serve(self, link: Link, resume: Resume | None) -> Steps:
        """The answer of a server without a proxy before it."""
        answer = self.traffic.answer(link.server)
        begin = 0 if resume is None else _DIRECT.index(resume.stage)
        for stage in _DIRECT[begin:]:
            here = resume if resume is not None and resume.stage is stage else None
            if stage is Stage.STREAMING:
                link.close_announced |= self.traffic.says_close(link, built_now=here is None)
            duration = answer.service if stage is Stage.IN_SERVICE else answer.stream
            yield from self.spend(stage, duration.draw_s(self.rng) if here is None else here.remaining_s)
            if stage is Stage.IN_SERVICE and (held_s := self.traffic.held_s(link.server)) > 0:
                yield from self.spend(stage, held_s)

    def _read(self, left_s: float, *, waited: bool = False) -> Steps:
        """The answer is on the client's side: nothing can fail, but a stop may find the client off its core.

        Raises
        ------
        LoadOver
        """
        while left_s > 0:
            began_s = float(self.env.now)
            is_read = yield self.nap.begin(left_s)
            if self.traffic.over:
                raise LoadOver
            if is_read:
                return
            left_s -= float(self.env.now) - began_s
            if not waited:
                left_s += self._off_cpu_s()
                waited = True

    def _off_cpu_s(self) -> float:
        """How long its client still waits for a core at this instant. [s]"""
        no_pause = self.traffic.no_pause
        return 0.0 if no_pause is None else no_pause.off_cpu_s()

    # ------------------------------------------------------------------ waiting

    def pause(self, duration_s: float) -> Generator[simpy.Event, Any, bool]:
        """Wait; True when the time has passed, False when something changed first.

        Raises
        ------
        Failed
            The client's answer time-out ran out.
        LoadOver
        """
        if self.traffic.over:
            raise LoadOver
        left_s = self._deadline_s - float(self.env.now)
        passed = yield self.nap.begin(min(duration_s, left_s))
        if self.traffic.over:
            raise LoadOver
        if not passed:
            return False
        if duration_s > left_s:
            pod = self.link.server.pod.name if self.link else None
            raise Failed(Seen.ANSWER_TIMEOUT, self._deadline_cause, Stage.IN_SERVICE, pod)
        return True

    def wait(self, duration_s: float) -> Steps:
        """`pause` until the time has passed, whatever changes."""
        ends_s = float(self.env.now) + duration_s
        while not (yield from self.pause(ends_s - float(self.env.now))):
            pass

    def waits_for(self, cause: Cause) -> None:
        """What a time-out of the client would be put down to from now on."""
        self._deadline_cause = cause

    def spend(
        self,
        stage: Stage,
        duration_s: float,
        *,
        until: Callable[[], bool] | None = None,
        met: bool = False,
    ) -> Generator[simpy.Event, Any, bool]:
        """Pass *duration_s* in *stage*, unless the world ends it. A deaf server makes no progress.

        With *until* it ends when that holds; whether it did. *met*: it was under way when the last change came.

        Raises
        ------
        Failed
            The client's connection broke, or its time-out ran out.
        BackendBroken
            The proxy's connection broke.
        """
        left_s = duration_s
        if stage is Stage.STREAMING and left_s <= 0:
            return False  # the answer left in one piece
        reader = self._reader(stage)
        if reader is not None and not met:
            reader.sent_s = float(self.env.now)
        unheard = reader is not None and (met or not ends_its_pass(reader.server))
        while True:
            calm = self._is_calm
            if not calm:
                self._check(stage)
            if until is not None and until():
                return True
            if unheard and reader is not None and is_read_in_last_pass(reader):
                return False
            frozen = not calm and self._frozen(stage)
            if not frozen and left_s <= 0:
                return False
            began_s = float(self.env.now)
            done = yield from self.pause(NEVER if frozen else left_s)
            if not frozen:
                left_s = 0.0 if done else left_s - (float(self.env.now) - began_s)

    @property
    def _is_calm(self) -> bool:
        """Nothing can happen to a request now, nor hold it up."""
        link, behind = self.link, self.hop.link
        return link is not None and link.server.healthy and (behind is None or behind.server.healthy)

    def _reader(self, stage: Stage) -> Link | None:
        """The connection on which a request waits to be read."""
        if stage is not Stage.SENT:
            return None
        return self.hop.link if self.hop.inside else self.link

    def _frozen(self, stage: Stage) -> bool:
        links = (self.link, self.hop.link if self.hop.inside else None)
        deaf = [link.server for link in links if link is not None and link.server.phase is ServerPhase.DEAF]
        if stage is Stage.IN_SERVICE:
            deaf = [server for server in deaf if not self.traffic.answer(server).in_one_batch]
        return bool(deaf)

    def _check(self, stage: Stage) -> None:
        link, hop = self.link, self.hop
        assert link is not None
        mine = Stage.IN_SERVICE if hop.inside and stage is not Stage.STREAMING else stage
        if (fate := hit(mine, link)) is not None:
            raise Failed(*fate, mine, link.server.pod.name)
        if hop.inside and hop.link is not None and (fate := hit(stage, hop.link)) is not None:
            raise BackendBroken(*fate, stage)

    # ------------------------------------------------------------------ connecting

    def _connect(self, resume: Resume | None) -> Steps:
        """The client's own connect, through the rules of its node.

        Raises
        ------
        Failed
        """
        traffic, env = self.traffic, self.env
        self._deadline_s = NEVER
        sent_s = float(env.now)
        yield env.timeout(traffic.round_trip_s(self.rng) if resume is None else resume.remaining_s)
        if resume is not None and (why := resume.refused) is not None:
            raise Failed(why.seen, why.cause, Stage.CONNECTING, why.pod)
        try:
            yield from self._syns(sent_s)
        finally:
            self._hears()

    def _syns(self, sent_s: float) -> Steps:
        """One SYN, sent at *sent_s*, and those that follow it.

        Raises
        ------
        Failed
        """
        traffic, env = self.traffic, self.env
        began_s = float(env.now)
        limit_s = min(
            traffic.load.connect_timeout_s if traffic.kind.gives_up else NEVER, SYN_GIVES_UP_AFTER_S
        )
        server: Server | None = None
        spun = False
        n_remembered = 0
        for gap_s in SYN_AGAIN_AFTER_S:
            server = self._draw()
            if not is_silent(server):
                self._hears()
            if server is None and traffic.kind.spins_on_icmp and not spun:
                yield from self._spin(gap_s)
                spun = True
                continue
            refused = refusal(server)
            if refused is not None:
                if traffic.no_pause is not None:
                    yield from traffic.no_pause.refuse(self, refused)
                raise Failed(refused.seen, refused.cause, Stage.CONNECTING, refused.pod)
            assert server is not None
            if not is_silent(server):
                if traffic.time_waits.refuses(server, self.rng):
                    yield from self.wait(traffic.time_waits.again_s(n_remembered, self.rng))
                    n_remembered += 1
                    continue
                self.link = self.open_link(server)
                return
            answer = traffic.vanished_answer(server, sent_s)
            if answer is Vanished.UNREACHABLE:
                raise Failed(Seen.UNREACHABLE, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING, server.pod.name)
            pinned = answer is Vanished.SILENCE_PINNED
            left_s = began_s + limit_s - float(env.now)
            wait_s = left_s if pinned else min(gap_s, left_s)
            self._hears_nothing()
            yield from self.hang(self.wait(wait_s), float(env.now) + wait_s, server, leaves_port=pinned)
            sent_s = float(env.now)
            if wait_s >= left_s:
                break
        pod = server.pod.name if server is not None else None
        raise Failed(Seen.CONNECT_TIMEOUT, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING, pod)

    def _hears_nothing(self) -> None:
        """Nothing moves on it; another SYN is no event to who waits for one."""
        if not self._unheard:
            self._unheard = True
            self.traffic.hangs(+1)

    def _hears(self) -> None:
        if self._unheard:
            self._unheard = False
            self.traffic.hangs(-1)

    def _spin(self, until_next_syn_s: float) -> Steps:
        """ICMP in answer to the first SYN is a soft error to Linux: the connect goes on, poll says error.

        ab asks recv, hears "again" and polls anew, as fast as it can, until the next SYN is answered; there the
        same ICMP is a hard error (net/ipv4/tcp_ipv4.c tcp_v4_err; tried on loopback with ab 2.3).
        """
        self.traffic.spins(+1)
        try:
            yield from self.wait(until_next_syn_s)
        finally:
            self.traffic.spins(-1)

    def hang(
        self,
        waiting: Generator[simpy.Event, Any, Any],
        ends_s: float,
        server: Server | None,
        proxy: Proxy | None = None,
        *,
        leaves_port: bool = True,
    ) -> Steps:
        """Go through *waiting*, up to *ends_s*, for *server*'s vanished address; then the socket is closed.

        *server*: None for a Service without endpoints, of whose rejection nothing is heard. *leaves_port*: connection
        tracking still knows where its port leads.

        Raises
        ------
        LoadOver
            HungAtTheEnd where the request will not be answered in its time.
        """
        self.hangs = True
        self.traffic.old_ports.hangs(+1)
        try:
            yield from self.stand(waiting)
        except LoadOver:
            if not self.traffic.kind.gives_up or (proxy is not None and self._deadline_s > ends_s):
                raise
            seen, cause, stage = _UNANSWERED if proxy is None else _UNANSWERED_BEHIND
            pod = None if server is None else server.pod.name
            raise HungAtTheEnd(Failed(seen, cause, stage, pod)) from None
        finally:
            self.hangs = False
            self.traffic.old_ports.hangs(-1)
            if leaves_port and server is not None:
                self.traffic.old_ports.leave(self, server, proxy)

    def stand(self, waiting: Generator[simpy.Event, Any, Any]) -> Steps:
        """Go through *waiting*, which takes no CPU of anybody."""
        self.traffic.n_standing += 1
        try:
            yield from waiting
        finally:
            self.traffic.n_standing -= 1

    def take_old_port(self) -> Server | None:
        server, self.old_port = self.old_port, None
        return server

    def _draw(self) -> Server | None:
        if not self.traffic.has_proxy and (old := self.take_old_port()) is not None:
            return old
        ways = self.steered()
        way = pick_way(ways, self.rng)
        if way is None:
            return pick(self.traffic.targets(self.source), self.rng)
        self.steer([other for other in ways if other.line is not None and other.front is way.front])
        return way.front

    def open_link(self, server: Server) -> Link:
        now_s = float(self.env.now)
        unseen = bool(self.rng.random() < 0.5)
        link = Link(server, owner=self, opened_s=now_s, idle_since_s=now_s, unseen=unseen)
        server.attach(link)
        return link

    def drop_link(self) -> None:
        if self.link is not None:
            self.link.server.detach(self.link)
            self.link = None
