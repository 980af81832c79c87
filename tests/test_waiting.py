"""What processes wait for: changes that come again, and naps that others cut short."""

from contextlib import suppress

import simpy

from sim.waiting import NEVER, Change, Nap, Turn, all_of


def test_all_who_wait_hear_of_a_change_once():
    """Who begins to wait at a change waits for the next one."""
    env = simpy.Environment()
    change, heard = Change(env), []

    def waiting(name):
        for _ in range(2):
            yield change.next
            heard.append((name, env.now))

    def changing():
        for _ in range(2):
            yield env.timeout(1.0)
            change.happens()
            change.happens()  # nobody waits yet

    for name in "ab":
        env.process(waiting(name))
    env.process(changing())
    env.run()
    assert heard == [("a", 1.0), ("b", 1.0), ("a", 2.0), ("b", 2.0)]


def test_a_change_counts_for_a_wait_with_a_limit():
    """As one of two events; the other one leaves nothing behind."""
    env = simpy.Environment()
    change, ends = Change(env), []

    def waiting():
        for _ in range(2):
            yield change.next | env.timeout(3.0)
            ends.append(env.now)

    env.process(waiting())
    env.run(until=1.0)
    change.happens()
    env.run()
    assert ends == [1.0, 4.0]


def test_a_nap_says_how_it_ended():
    """In time, or woken before; a second waking, or one that comes too late, does nothing."""
    env = simpy.Environment()
    nap, ends = Nap(env), []

    def sleeping():
        for for_s in (1.0, 1.0, NEVER, -1.0):
            ended = yield nap.begin(for_s)
            ends.append((env.now, ended))

    def waking():
        for at_s in (1.5, 1.5, 7.0, 9.0):
            yield env.timeout(at_s - env.now)
            nap.wake()
            nap.wake()

    nap.wake()  # nobody is asleep
    env.process(sleeping())
    env.process(waking())
    env.run()
    assert ends == [(1.0, True), (1.5, False), (1.5, False), (1.5, True)]


def test_a_turn_goes_to_those_who_asked_in_their_order():
    """One at a time; who asks while it is passed on comes after whom it is passed to, and an error passes it on too."""
    env = simpy.Environment()
    turn, times = Turn(env), []

    def worker(name, asks_s, fails=False):
        yield env.timeout(asks_s)
        with suppress(AssertionError), (yield from turn.mine()):
            times.append((name, env.now))
            yield env.timeout(1.0)
            assert not fails

    for name, asks_s, fails in (("a", 0.0, True), ("b", 0.5, False), ("c", 1.0, False), ("d", 9.0, False)):
        env.process(worker(name, asks_s, fails))
    env.run()
    assert times == [("a", 0.0), ("b", 1.0), ("c", 2.0), ("d", 9.0)]


def test_all_of_waits_for_the_last():
    """They go at once: the longest decides, of none there is nothing to wait for."""
    env = simpy.Environment()
    ends = []

    def step(for_s):
        yield env.timeout(for_s)

    def waiting():
        for lasts_s in ([1.0, 3.0, 2.0], [1.0], []):
            yield from all_of(env, [step(each) for each in lasts_s])
            ends.append(env.now)

    env.process(waiting())
    env.run()
    assert ends == [3.0, 4.0, 4.0]
