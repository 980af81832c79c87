"""What processes wait for: changes that come again, and naps that others cut short."""

import simpy

from sim.waiting import NEVER, Change, Nap


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
