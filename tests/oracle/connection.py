"""One client connection, one request after the other: pause, connect, send, wait, read.

Each method that takes time is a task for the clock (clock.py). The rules are those of the references, written
down once more: clients by their flags (sim/traffic/clients.py), servers by fates.py.
"""

from collections.abc import Callable, Generator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from oracle import proxied
from oracle.clock import NEVER, Steps, Task
from oracle.fates import BackendBroken, Failed, Link, closes_idle, fate, refusal
from oracle.mirror import Host, Line, Proxy
from oracle.ports import Ports

from sim.outcomes import Cause, Failure, Seen
from sim.scenario.timing import Vanished
from sim.traffic.clients import IDEMPOTENT
from sim.traffic.links import Stage
from sim.world import ServerPhase

if TYPE_CHECKING:
    from oracle.judge import Judge

SYN_GAPS_S = (1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Linux 6.5 and later: 1, 2, 3, 4, 5, 7, 11, 19 … s after the first SYN; then ETIMEDOUT."""
P = ServerPhase


class Connection:
    def __init__(self, judge: "Judge", index: int) -> None:
        self.judge = judge
        self.clock = judge.clock
        self.index = index
        self.source = index % judge.load.sources
        self.task: Task | None = None
        self.link: Link | None = None
        self.back: Link | None = None
        """The proxy's connection for the request under way."""
        self.inside = False
        """The request has gone from the proxy to the pod."""
        self.proxy: Proxy | None = None
        self.line: Line | None = None
        self.kept: dict[Line, Link] = {}
        self.busy = False
        """A request is under way."""
        self.idle = True
        """Nothing of a request is on the wire or in the server: thinking, or reading what has arrived."""
        self.idle_since_s = 0.0
        self.begins = False
        """Open loop: a request is to begin."""
        self.deadline_s = NEVER
        self.unanswered: Failed | None = None
        """What becomes of a connect that nothing answers if the load ends now."""
        self.unheard = False
        """Its connect has had no answer of any kind."""
        self.turn_s = NEVER
        """When the connect began that was under way as the last of many refusals was over."""
        self.stands = False
        """Nobody does anything on it for now."""
        self.late_by = Cause.SLOW_ANSWER
        """What a time-out of the client would be put down to."""

    # ------------------------------------------------------------------ what the world tells

    def on_server(self, host: Host) -> None:
        for link in self.kept.values():
            if link.host is host and not link.fin and closes_idle(link):
                self._close(link)
        if self.proxy is not None and self.proxy.host is host and host.phase is P.EXITED:
            self.drop_kept()
        link = self.link
        if link is not None and link.host is host:
            if self.idle and not link.fin and closes_idle(link):
                self._close(link)
            self.wake()
        elif self.back is not None and self.back.host is host:
            self.wake()

    def on_lines(self) -> None:
        """DNS may have given a slot to another pod: connections of the old one are closed."""
        for line, link in list(self.kept.items()):
            if line.live.is_slot and line.slot_host is not link.host:
                link.host.server.detach(self.kept.pop(line))

    def wake(self) -> None:
        if self.task is not None:
            self.clock.poke(self.task)

    def _close(self, link: Link) -> None:
        """The server closes an idle connection; nginx's keepalive_min_timeout gives a young one some time."""
        young_for_s = link.host.min_idle_s - (self.clock.now_s - link.idle_since_s)
        if young_for_s > 0 and link.host.phase is P.DRAINING:
            self.clock.start(self._close_at(link, self.clock.now_s + young_for_s))
        else:
            self._send_fin(link)

    def _send_fin(self, link: Link) -> None:
        link.fin, link.fin_s = True, self.clock.now_s
        link.host.server.detach(link)

    def _close_at(self, link: Link, at_s: float) -> Steps:
        since_s = link.idle_since_s
        yield at_s
        in_use = link is self.back or (link is self.link and not self.idle)
        if not in_use and not link.fin and link.idle_since_s == since_s:
            self._send_fin(link)

    # ------------------------------------------------------------------ life

    def live(self, first_s: float) -> Steps:
        """A closed loop."""
        judge, clock = self.judge, self.clock
        think_s = judge.think_s
        yield from self.until(first_s)
        while True:
            if think_s is not None:
                yield from self._pause(clock.now_s + think_s())
            yield from self._request()
            if judge.ended:
                return

    def serve(self) -> Steps:
        """An open loop: one request whenever it is told so, by waking it, until the pool has no room for it."""
        while True:
            while not self.begins:
                yield from self._pause(NEVER, lambda: self.begins)
            self.begins = False
            yield from self._request()
            if self.judge.ended:
                return
            self.idle_since_s = self.clock.now_s
            if not self.judge.free(self):
                self.hang_up()
                return

    def _pause(self, until_s: float, ends: Callable[[], bool] = lambda: False) -> Steps:
        """Nothing to send; a server ends a pause that is longer than its idle time-out."""
        link = self.link
        times_out_s = NEVER
        if link is not None and not link.fin:
            times_out_s = self.clock.now_s + link.host.max_idle_s
        if times_out_s < until_s:
            while (yield times_out_s):
                if ends():
                    return
            if link is self.link and link is not None and not link.fin:
                self._send_fin(link)
                link.timed_out = True
        while (yield until_s):
            if ends():
                return

    def until(self, at_s: float) -> Steps:
        while (yield at_s):
            pass

    def hang_up(self) -> None:
        self.drop_link()
        self.leave(keep=False)
        self.drop_kept()

    # ------------------------------------------------------------------ one request

    def _request(self) -> Steps:
        judge, kind, load = self.judge, self.judge.kind, self.judge.load
        n_left = load.retries
        began_s = self.clock.now_s
        self.busy = True
        while True:
            if self.link is not None and kind.sees_idle_close and self.knows_fin(self.link):
                self.drop_link()
            link = self.link
            reused = link is not None and link.n_requests > 0
            closed_before = link is not None and link.fin
            try:
                if link is None:
                    yield from self._connect()
                answered_by = yield from self._exchange()
            except Failed as failed:
                self.idle = True
                self.leave(keep=False)
                yield from self._after_failure(failed)
                free_repeat = (
                    kind.repeats_on_reused
                    and reused
                    and failed.seen in (Seen.EOF, Seen.RESET)
                    and load.method in IDEMPOTENT
                )
                if free_repeat or n_left > 0:
                    n_left -= int(not free_repeat)
                    judge.retried()
                    continue
                judge.fail(self.row(failed, reused=reused, closed_before=closed_before))
            else:
                judge.succeed(answered_by, late=self.clock.now_s - began_s > load.answer_timeout_s)
            self.busy = False
            self.idle = True
            self.deadline_s = NEVER
            return

    def _after_failure(self, failed: Failed) -> Steps:
        link = self.link
        if link is None:
            return
        if failed.reply:
            link.idle_since_s = self.clock.now_s
            yield from self._read()
        if not failed.reply or not self.judge.keeps or link.announced:
            self.drop_link()

    def row(self, failed: Failed, *, reused: bool, closed_before: bool = False) -> Failure:
        return Failure(
            at_s=self.clock.now_s,
            cause=failed.cause,
            seen=failed.seen,
            reused=reused,
            connection=self.index,
            pod=failed.pod,
            phase="idle" if closed_before else failed.stage.value,
        )

    def _exchange(self) -> Generator[float, Any, Host]:
        """Request written, answer read; who answered."""
        judge, clock, link = self.judge, self.clock, self.link
        assert link is not None
        host = link.host
        self.idle = False
        link.n_requests += 1
        if host.min_idle_s > 0:
            link.young = link.n_requests > 1 and clock.now_s - link.idle_since_s < host.min_idle_s
        self.deadline_s = clock.now_s + judge.load.answer_timeout_s if judge.kind.gives_up else NEVER
        self.late_by = Cause.SLOW_ANSWER
        if link.fin:
            yield from self._await_rst(link)
        yield from self.spend(Stage.SENT, judge.sent_s() * judge.slowdown)
        proxy = judge.proxies.get(host)
        if proxy is None:
            yield from self.spend(Stage.IN_SERVICE, host.service_s())
            if (held_s := host.held_until_s - clock.now_s) > 0:
                yield from self.spend(Stage.IN_SERVICE, held_s)
            self.announce(link)
            if (streams_s := host.stream_s()) > 0:
                yield from self.spend(Stage.STREAMING, streams_s)
            answered_by = host
        else:
            answered_by = yield from proxied.handle(self, proxy)
            self.leave(keep=True)
        self.idle = True
        link.idle_since_s = clock.now_s
        if not host.calm and not link.announced and not link.fin and closes_idle(link):
            self._close(link)
        yield from self._read()
        if not judge.keeps or link.announced:
            judge.closed_by_server(link)
            self.drop_link()
        return answered_by

    def _await_rst(self, link: Link) -> Steps:
        """Written on a connection that its server has closed."""
        ends_s = self.clock.now_s + self.judge.round_trip_s()
        yield from self.until(min(ends_s, self.deadline_s))
        if ends_s > self.deadline_s:
            raise Failed(Seen.ANSWER_TIMEOUT, self.late_by, Stage.IN_SERVICE, link.host.pod)
        cause = Cause.IDLE_TIMEOUT_RACE if link.timed_out else Cause.IDLE_CLOSED
        raise Failed(Seen.EOF, cause, Stage.IDLE, link.host.pod)

    def _read(self) -> Steps:
        """The answer has arrived; a client without pause may just have lost its core to what stops the server."""
        ends_s = self.clock.now_s + self.judge.read_s() * self.judge.slowdown
        if ends_s <= self.clock.now_s:
            return
        waited = False
        while (yield ends_s):
            if not waited:
                ends_s += self.judge.off_cpu_s()
                waited = True

    def announce(self, link: Link) -> None:
        """The header of an answer on *link* leaves: does it say that the connection ends with it?"""
        host = link.host
        if (
            link.n_requests >= host.max_requests
            or (not host.calm and host.announces(link.sent_s))
            or self.clock.now_s - link.opened_s > host.max_age_s
        ):
            link.announced = True

    # ------------------------------------------------------------------ time in a stage

    def spend(
        self, stage: Stage, for_s: float, until: Callable[[], bool] | None = None
    ) -> Generator[float, Any, bool]:
        """Pass *for_s* in *stage*, unless something ends it; a server in a fast stop makes no progress.

        With *until* it also ends when that holds; whether it did.

        Raises
        ------
        Failed, BackendBroken
        """
        clock, link, back = self.clock, self.link, self.back
        assert link is not None
        ends_s = clock.now_s + for_s
        waits_on = None
        if stage is Stage.SENT:
            waits_on = back if self.inside and back is not None else link
            waits_on.sent_s = clock.now_s
        if link.host.calm and (back is None or back.host.calm):
            if until is None and ends_s < self.deadline_s and not (yield ends_s):
                return False  # as nearly all do: nothing has changed
        elif waits_on is not None and waits_on.host.last_pass:
            waits_on = None  # too late to be read
        while True:
            stands = False
            if not link.host.calm or (back is not None and not back.host.calm):
                self._look(stage)
                stands = self._stands(stage)
            if until is not None and until():
                return True
            if waits_on is not None and waits_on.host.last_pass:
                late = waits_on.in_backlog or waits_on.sent_s >= waits_on.host.word_s
                if waits_on.n_requests > 1 or not late:
                    return False
            now_s = clock.now_s
            if not stands and ends_s <= now_s:
                return False
            goal_s = NEVER if stands else ends_s
            woken = yield (min(self.deadline_s, goal_s))
            if stands:
                ends_s += clock.now_s - now_s
            if not woken:
                if self.deadline_s < goal_s:
                    raise Failed(Seen.ANSWER_TIMEOUT, self.late_by, Stage.IN_SERVICE, link.host.pod)
                return False

    def _look(self, stage: Stage) -> None:
        """Whether the request is lost, here or behind the proxy. For its client the proxy is at work on it."""
        link, back = self.link, self.back
        assert link is not None
        mine = Stage.IN_SERVICE if self.inside and stage is not Stage.STREAMING else stage
        if (hit := fate(mine, link)) is not None:
            raise Failed(*hit, mine, link.host.pod)
        if self.inside and back is not None and (hit := fate(stage, back)) is not None:
            raise BackendBroken(hit[0], stage)

    def _stands(self, stage: Stage) -> bool:
        """A fast stop reads nothing more; nginx still answers what it has read in the same pass."""
        links = (self.link, self.back if self.inside else None)
        return any(
            link is not None
            and link.host.phase is P.DEAF
            and not (stage is Stage.IN_SERVICE and link.host.in_one_batch)
            for link in links
        )

    # ------------------------------------------------------------------ connecting

    def _connect(self) -> Steps:
        """SYNs, until one is answered."""
        judge, clock = self.judge, self.clock
        self.deadline_s = NEVER
        sent_s, self.turn_s = min(clock.now_s, self.turn_s), NEVER
        yield from self.until(clock.now_s + judge.round_trip_s())
        gives_up_s = clock.now_s + min(
            judge.load.connect_timeout_s if judge.kind.gives_up else NEVER, sum(SYN_GAPS_S)
        )
        ports = judge.ports(self.source)
        port, remembered = ports.take(clock.now_s)
        spun, retry_s = False, judge.again_s()
        host: Host | None = None
        for gap_s in SYN_GAPS_S:
            host = remembered or judge.pick(self.source)
            if host is None or host.phase is not P.VANISHED:
                judge.hears(self)
            if host is None and judge.kind.spins_on_icmp and not spun:
                spun = True
                yield from judge.spin(self.until(clock.now_s + gap_s))
                continue
            if (why := refusal(host)) is not None:
                yield from judge.refused(self, *why)
                raise Failed(Seen.REFUSED, why[0], Stage.CONNECTING, why[1])
            assert host is not None
            if host.phase is not P.VANISHED:
                if not judge.lets_in((self.source, port), host):
                    self.stands = True
                    yield from self.until(clock.now_s + retry_s)
                    self.stands, retry_s = False, SYN_GAPS_S[0]
                    continue
                self.link = self.open_link(host)
                self.link.client = self.source, port
                return
            answer = judge.vanished
            if answer is Vanished.UNREACHABLE and judge.forwarded:
                raise Failed(Seen.UNREACHABLE, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING, host.pod)
            unanswered = Failed(Seen.CONNECT_TIMEOUT, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING, host.pod)
            judge.hears_nothing(self)
            if answer is Vanished.SILENCE_PINNED and not judge.forgets(host, sent_s):
                yield from self.hang(ports, port, host, self.until(gives_up_s), unanswered)
                break
            again_s = min(clock.now_s + gap_s, gives_up_s)
            yield from self.hang(None, port, host, self.until(again_s), unanswered)
            sent_s = clock.now_s
            if again_s >= gives_up_s:
                break
        judge.hears(self)
        pod = None if host is None else host.pod
        raise Failed(Seen.CONNECT_TIMEOUT, Cause.STALE_ENDPOINT_SILENT, Stage.CONNECTING, pod)

    def hang(
        self,
        ports: Ports | None,
        port: int,
        host: Host | None,
        steps: Generator[float, Any, Any],
        unanswered: Failed,
    ) -> Steps:
        """*steps*, during which *host* answers no SYN from *port*; a load that ends meanwhile still waits for it.

        Without a host, and so without *ports*: nothing was heard of a rejection.
        """
        began_s = self.clock.now_s
        self.unanswered, self.stands = unanswered, True
        if ports is not None:
            assert host is not None
            ports.hold(port, host)
        try:
            yield from steps
        finally:
            self.unanswered, self.stands = None, False
            if ports is not None:
                lasted_s = self.clock.now_s - began_s
                syns_s = [at_s for at_s in accumulate(SYN_GAPS_S, initial=0.0) if at_s < lasted_s]
                ports.release(port, began_s + max(syns_s, default=0.0))

    def open_link(self, host: Host) -> Link:
        now_s = self.clock.now_s
        link = Link(host, now_s, in_backlog=self.judge.share() < 0.5, idle_since_s=now_s)
        host.server.attach(link)
        return link

    def knows_fin(self, link: Link) -> bool:
        """Whether its FIN has come half a round trip to whoever watches *link*."""
        return link.fin and self.clock.now_s - link.fin_s >= self.judge.round_trip_s() / 2

    def drop_link(self) -> None:
        if self.link is not None:
            self.link.host.server.detach(self.link)
            self.link = None

    # ------------------------------------------------------------------ the proxy's connections

    def leave(self, *, keep: bool) -> None:
        """The request is through: its server line is free, its connection kept if both sides will."""
        back, line, proxy = self.back, self.line, self.proxy
        self.inside = False
        wanted = keep and proxy is not None and proxied.keeps(proxy) and line not in self.kept
        if wanted and back is not None and line is not None and not (back.announced or back.fin):
            back.idle_since_s = self.clock.now_s
            if not closes_idle(back):
                self.kept[line], self.back = back, None
        self.drop_back()
        self.leave_line()

    def leave_line(self) -> None:
        if self.line is not None:
            self.line.n_running -= 1
            self.line = None
            if self.proxy is not None and self.proxy.waiting:
                self.proxy.waiting[0].wake()

    def drop_back(self) -> None:
        self.inside = False
        if self.back is not None:
            self.back.host.server.detach(self.back)
            self.back = None

    def drop_kept(self) -> None:
        for link in self.kept.values():
            link.host.server.detach(link)
        self.kept.clear()
