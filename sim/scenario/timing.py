"""Timing profiles: every latency that is not a setting, as a named distribution with its source."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.distributions import Distribution
from sim.scenario.documents import is_file, read_documents
from sim.scenario.durations import parse_distribution

KIND: Final = "TimingProfile"
_PACKAGED: Final = Path(__file__).parent.parent / "_timing"  # in a wheel
_CHECKOUT: Final = Path(__file__).parent.parent.parent / "configs" / "timing"


class Vanished(Enum):
    """What the address of a pod answers once its network namespace is gone."""

    SILENCE_PINNED = "silence-pinned"
    """Every SYN of one connect goes to the same dead address (stock kind, most clouds)."""
    SILENCE_REDRAWN = "silence-redrawn"
    """Dropped before conntrack confirms it: the next SYN, 1 s later, meets today's rules."""
    UNREACHABLE = "unreachable"
    """ICMP host unreachable; only forwarded packets (a client in a pod, a proxy) see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One profile. Durations are distributions in seconds; shares are in 0…1.

    The profile's file gives each value's source; ``docs`` of a field says what starts and ends it.
    """

    name: str

    # API server and controllers; "at rest" when no deletion is at work on the control plane's node
    api_write: Distribution  # request to committed and answered
    watch_hop: Distribution  # commit to an informer's handler
    controller_sync: Distribution  # handler to the controller's own first write
    controller_sync_at_rest: Distribution
    endpointslice_sync: Distribution  # handler to write, EndpointSlice controller
    endpointslice_sync_at_rest: Distribution
    schedule: Distribution  # unscheduled pod seen to bound
    schedule_at_rest: Distribution

    # kubelet
    kubelet_reaction: Distribution  # watch event to the pod worker acting on it
    volume_wait: Distribution  # pods with volumes (nearly all: the token)
    late_mount: (
        Distribution  # what several pods at once wait beside it, the first of a Deployment on their node
    )
    sandbox: Distribution  # pause container and CNI ADD
    container_start: Distribution  # image present: create and start
    pleg_relist: Distribution  # one relist; the next starts 1 s after its end
    pod_sync: Distribution  # relist seen to status written inside the kubelet
    probe_round: Distribution  # one probe of a server that answers
    status_patch: Distribution  # GET and PATCH of one pod, serial on a node
    exec_hook: Distribution  # what an exec hook costs beside its command
    signal_delivery: Distribution  # StopContainer called to the signal in the process
    exit_to_netns_gone: Distribution  # last container gone to silence of the address
    relist_to_removed: (
        Distribution  # relist after the terminal status to the request that ends the pod object
    )
    p_first_kick: float  # share of pods whose first readiness kick finds the container
    p_second_kick: float  # share of the others that get another within about 1 s

    # kube-proxy
    proxy_sync: Distribution  # one sync of the rules, while a deletion is at work on the node
    proxy_sync_at_rest: Distribution
    proxy_min_interval_s: float  # end of one sync to the start of the next

    # servers; "at rest" when no deletion is at work on the node
    signal_heard: Distribution  # signal in the process to the server acting on it; it serves on meanwhile
    signal_heard_at_rest: Distribution
    core_wait: Distribution  # nginx: its worker waits for a core at the end of that, and reads nothing
    core_wait_at_rest: Distribution
    p_word_wakes: float  # share of stops in which its master's word wakes it; else that comes while it waits
    fast_stop: Distribution  # a fast stop: last read of the server to its sockets closed
    fast_stop_at_rest: Distribution
    graceful_exit: Distribution  # last connection ended to the process gone
    graceful_exit_at_rest: Distribution
    sigkill: Distribution  # SIGKILL called to sockets closed
    saturated: Mapping[str, Distribution]  # by name of a latency: instead of it, under a client without pause

    # network and clients
    round_trip: Distribution  # SYN to SYN-ACK inside the cluster
    scheduler_turn: Distribution  # a runnable client without a core, to its turn (crowded machine)
    vanished: Vanished
    forgets: Distribution  # device of a vanished pod down to its route gone: what is sent there meanwhile is forgotten
    p_time_wait_refuses: float  # share of the SYNs on a pair in TIME_WAIT that are not let in
    time_wait_again: Distribution  # such a SYN to the next one
    client_overhead: Mapping[
        str, Distribution
    ]  # by client: answer readable to the next step of a paced client
    request_cpu_s: Mapping[
        str, float
    ]  # CPU of one request by part: ab, wrk, nginx, haproxy, generic, connect
    wakeups_cores: (
        float  # most that the `wakeups` of a paced load take, however many requests: many share one
    )
    operation_cores: float  # cores that the start or the end of one pod keeps busy
    node_utilisation: float  # share of the node's cores that a rollout takes without any load
    ab_spin_cpu_s: float  # one round of ab's poll loop on a connect in error
    refused_cpu_s: float  # CPU of one refused connect of a client without pause


_SCALARS: Final = (
    "p_first_kick",
    "p_second_kick",
    "p_word_wakes",
    "p_time_wait_refuses",
    "proxy_min_interval_s",
    "refused_cpu_s",
    "ab_spin_cpu_s",
    "node_utilisation",
    "operation_cores",
    "wakeups_cores",
)


def profile_path(name: str, *, beside: Path) -> Path:
    """Where the profile *name* lies: a shipped one, or a file relative to the scenario.

    Raises
    ------
    InputError
        There is neither.
    """
    for folder in (_PACKAGED, _CHECKOUT):
        if is_file(folder / f"{name}.yaml"):
            return folder / f"{name}.yaml"
    file = beside / name
    if is_file(file):
        return file
    shipped = sorted({path.stem for folder in (_PACKAGED, _CHECKOUT) for path in folder.glob("*.yaml")})
    raise InputError(
        f"spec.timing: {name!r} is neither a file nor one of the shipped profiles {', '.join(shipped)}"
    )


def load_timing(name: str, *, beside: Path) -> Timing:
    """Read a profile; one that names another as `base` only gives what differs.

    Raises
    ------
    InputError
        With file and field.
    """
    path = profile_path(name, beside=beside)
    return _build(path, _values(path, seen=()))


def _values(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    here = path.resolve()
    if here in seen:
        raise InputError(f"{path}: base: the profiles name each other in a circle")
    documents = read_documents(path)
    if [document.kind for document in documents] != [KIND]:
        raise InputError(f"{path}: kind: expected one document, a {KIND}")
    (document,) = documents
    spec = document.data.get("spec")
    if not isinstance(spec, dict):
        raise InputError(f"{path}: spec: expected a mapping of latencies")
    base = document.data.get("base")
    inherited = _values(profile_path(str(base), beside=path.parent), (*seen, here)) if base else {}
    name = document.name if document.name != "None" else path.stem
    return {**inherited, **spec, "name": name}


def _build(path: Path, values: dict[str, Any]) -> Timing:
    known = {entry.name for entry in fields(Timing)}
    if unknown := sorted(set(values) - known):
        raise InputError(
            f"{path}: spec.{unknown[0]}: not a latency of a timing profile; known: {', '.join(sorted(known))}"
        )
    if missing := sorted(known - set(values)):
        raise InputError(f"{path}: spec.{missing[0]}: missing")
    ready: dict[str, Any] = {}
    for name, raw in values.items():
        value = raw["value"] if isinstance(raw, dict) and "value" in raw else raw
        ready[name] = _field(path, name, value)
    return Timing(**ready)


def _field(path: Path, name: str, value: Any) -> Any:
    where = f"{path}: spec.{name}"
    if name == "name":
        return value
    if name == "vanished":
        try:
            return Vanished(value)
        except ValueError:
            raise InputError(f"{where}: {value!r}; allowed: {', '.join(v.value for v in Vanished)}") from None
    if name in _SCALARS:
        return _number(where, value)
    if name == "request_cpu_s":
        return {part: _number(f"{where}.{part}", cpu_s) for part, cpu_s in _mapping(where, value).items()}
    if name == "saturated":
        return {each: _latency(where, each, d) for each, d in _mapping(where, value).items()}
    if name == "client_overhead":
        return {c: parse_distribution(d, f"{where}.{c}") for c, d in _mapping(where, value).items()}
    return parse_distribution(value, where)


def _latency(where: str, name: str, value: Any) -> Distribution:
    latencies = sorted(entry.name for entry in fields(Timing) if entry.type is Distribution)
    if name not in latencies:
        raise InputError(f"{where}.{name}: not a latency; known: {', '.join(latencies)}")
    return parse_distribution(value, f"{where}.{name}")


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: {value!r}; expected a mapping")
    return value


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise InputError(f"{where}: {value!r}; expected a number of at least 0")
    return float(value)
