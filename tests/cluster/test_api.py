"""The API server's machinery: token buckets, work queues, watches."""

import simpy
from builders import constant_timing, shipped_timing

from sim.cluster.api import Api, EndpointSliceView, Informer, TokenBucket, WorkQueue
from sim.delays import Delays


def test_a_token_bucket_lets_thirty_go_and_then_twenty_a_second():
    """50 requests at once: 30 at 0, the n-th further one at n/20 s; an idle second gives 20 back."""
    env = simpy.Environment()
    bucket, times = TokenBucket(env), []

    def request():
        yield from bucket.take()
        times.append(round(env.now, 9))

    for _ in range(50):
        env.process(request())
    env.run()
    assert times == [0.0] * 30 + [round(n / 20, 9) for n in range(1, 21)]
    times.clear()
    env.run(until=2.0)
    for _ in range(21):
        env.process(request())
    env.run()
    assert times == [2.0] * 20 + [2.05]


def test_a_bucket_never_saves_more_than_its_burst():
    """An hour's rest is worth 30 requests."""
    env = simpy.Environment()
    bucket, times = TokenBucket(env), []

    def request():
        yield from bucket.take()
        times.append(env.now)

    env.run(until=3600)
    for _ in range(31):
        env.process(request())
    env.run()
    assert times == [3600] * 30 + [3600.05]


def looks_of(env, queue, *, lasts_s=0.0, rests_s=None):
    """When a controller looks whose syncs go on for *lasts_s* and are followed by a rest."""
    looks = []

    def controller():
        while True:
            yield queue.next()
            looks.append(round(env.now, 9))
            if lasts_s:
                yield env.timeout(lasts_s)
            if rests_s is not None:
                queue.rest(rests_s)

    env.process(controller())
    return looks


def test_events_coalesce_while_a_sync_runs():
    """Ten events during one sync are one further sync."""
    env = simpy.Environment()
    queue = WorkQueue(env)
    syncs = looks_of(env, queue, lasts_s=1.0)

    def events():
        queue.add()
        for _ in range(10):
            yield env.timeout(0.05)
            queue.add()

    env.process(events())
    env.run(until=10)
    assert syncs == [0, 1.0]


def test_an_event_that_comes_later_wakes_then():
    """add_after adds at its time, and an event before it is a sync of its own."""
    env = simpy.Environment()
    queue = WorkQueue(env)
    syncs = looks_of(env, queue)
    queue.add_after(5.0)
    env.run(until=2.0)
    queue.add()
    env.run(until=10)
    assert syncs == [2.0, 5.0]


def test_a_sync_looks_after_its_time_and_not_before_its_rest_is_over():
    """Called at 0 it looks at 0.1; what calls while it looks or rests is one sync, 0.1 after the rest."""
    env = simpy.Environment()
    queue = WorkQueue(env, lambda: 0.1)
    looks = looks_of(env, queue, rests_s=1.0)

    def calls():
        for at_s in (0.0, 0.05, 0.5, 0.9, 3.0):
            yield env.timeout(at_s - env.now)
            queue.add()

    env.process(calls())
    env.run(until=10)
    assert looks == [0.1, 1.2, 3.1]


def test_a_call_at_the_very_instant_of_a_look_is_not_lost():
    """Whoever calls then cannot know whether it was seen."""
    env = simpy.Environment()
    queue = WorkQueue(env, lambda: 0.25)
    looks = looks_of(env, queue)

    def calls():
        queue.add()
        yield env.timeout(0.25)
        queue.add()

    env.run(until=0.1)
    env.process(calls())
    env.run(until=10)
    assert looks == [0.35, 0.6]


def test_what_wakes_nobody_is_known_when_somebody_looks(streams):
    """It is handed on in its order, when it has arrived and not before."""
    env = simpy.Environment()
    delays, seen = Delays(constant_timing(watch_hop=0.02), streams.take("watch")), []
    informer = Informer(env, delays, wakes=lambda view: view.generation == 3)
    informer.handlers.append(lambda view: seen.append(view.generation))
    for generation in (1, 2):
        informer.deliver(EndpointSliceView(service="app", generation=generation, endpoints=()))
    informer.catch_up()
    assert seen == []
    env.run(until=0.03)
    assert seen == []
    informer.catch_up()
    assert seen == [1, 2]
    for generation in (4, 3):
        informer.deliver(EndpointSliceView(service="app", generation=generation, endpoints=()))
    env.run(until=1.0)
    assert seen == [1, 2, 4, 3]


def test_a_watch_keeps_the_order(streams):
    """A snapshot with a short hop never overtakes one with a long hop."""
    env = simpy.Environment()
    seen = []
    informer = Informer(env, Delays(shipped_timing(), streams.take("watch")))
    informer.handlers.append(lambda view: seen.append(view.generation))

    def writes():
        for generation in range(500):
            informer.deliver(EndpointSliceView(service="app", generation=generation, endpoints=()))
            yield env.timeout(0.0005)

    env.process(writes())
    env.run()
    assert seen == list(range(500))


def test_a_write_commits_at_its_end(streams):
    """The change is computed from what is stored then, and watchers see it a hop later."""
    env = simpy.Environment()
    delays = Delays(constant_timing(api_write=0.1, watch_hop=0.02), streams.take("api"))
    api, seen = Api(env), []
    api.watch(
        EndpointSliceView, "test", delays, lambda view: seen.append((round(env.now, 6), view.generation))
    )
    api.store(EndpointSliceView(service="app", generation=1, endpoints=()))

    def later():
        last = api.slices["app"].generation
        return EndpointSliceView(service="app", generation=last + 1, endpoints=())

    env.process(api.write(delays, later))
    env.process(api.write(delays, later))
    env.run()
    assert seen == [(0.12, 2), (0.12, 3)]


def test_one_process_hears_once_for_all_that_it_runs(streams):
    """Controllers of one process share its informer, so they hear at the same instant; another process does not."""
    env = simpy.Environment()
    api, heard = Api(env), {}
    for name, process in (("replicaset", "manager"), ("endpointslice", "manager"), ("proxy", "kube-proxy")):
        delays = Delays(shipped_timing(), streams.take(name))
        api.watch(EndpointSliceView, process, delays, lambda _, name=name: heard.update({name: env.now}))
    api.commit(EndpointSliceView(service="app", generation=1, endpoints=()))
    env.run()
    assert heard["replicaset"] == heard["endpointslice"] != heard["proxy"]


def test_a_process_gets_what_it_asks_for(streams):
    """The API server filters: a kubelet never hears of the pods of other nodes."""
    env = simpy.Environment()
    api, seen = Api(env), []
    delays = Delays(shipped_timing(), streams.take("watch"))
    api.watch(
        EndpointSliceView, "one", delays, lambda v: seen.append(v.service), wants=lambda v: v.service == "app"
    )
    for service in ("app", "other"):
        api.commit(EndpointSliceView(service=service, generation=1, endpoints=()))
    env.run()
    assert seen == ["app"]
