"""spec.images: described images, presets, and official images by their name."""

import pytest

from sim.errors import InputError
from sim.scenario.distributions import Constant, Uniform
from sim.scenario.images import official_image
from sim.scenario.model import ExitWhen, OnBusy, OnIdle, OnListener, ServerKind
from sim.scenario.presets import PRESETS


def image(files, **fields):
    files.spec["images"]["app:red"] = {"server": "generic", **fields}
    return files.load().images["app:red"]


def refused(files, part, **fields):
    with pytest.raises(InputError) as caught:
        image(files, **fields)
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


def test_every_field(files):
    """All of a description arrives, in seconds."""
    read = image(
        files,
        version="1",
        stopSignal="SIGQUIT",
        startup={"uniform": ["1s", "2s"]},
        serviceTime="20ms",
        streamTime="1s",
        bodyBytes=5000,
        keepAlive=False,
        idleTimeout="5s",
        onStop={
            "SIGQUIT": {
                "listener": "keep",
                "idle": "closeAfterNext",
                "busy": "finish",
                "exit": "after",
                "exitAfter": "3s",
                "drainTimeout": "9s",
            }
        },
    )
    assert (read.server, read.stop_signal, read.startup) == (
        ServerKind.GENERIC,
        "SIGQUIT",
        Uniform(min_s=1, max_s=2),
    )
    assert (read.service_time, read.stream_time) == (Constant(value_s=0.02), Constant(value_s=1.0))
    assert (read.body_bytes, read.keep_alive, read.idle_timeout_s) == (5000, False, 5)
    stop = read.behaviours["SIGQUIT"]
    assert (stop.listener, stop.idle, stop.unused) == (
        OnListener.KEEP,
        OnIdle.CLOSE_AFTER_NEXT,
        OnIdle.CLOSE_AFTER_NEXT,
    )
    assert (stop.busy, stop.exit, stop.exit_after_s, stop.drain_timeout_s) == (
        OnBusy.FINISH,
        ExitWhen.AFTER,
        3,
        9,
    )


def test_header_delay_is_service_time(files):
    """Two names for one thing, never both."""
    assert image(files, headerDelay="30ms").service_time == Constant(value_s=0.03)
    refused(files, "give one of the two", headerDelay="30ms", serviceTime="30ms")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        (
            {"server": "apache"},
            'images."app:red".server: got "apache", allowed: nginx, haproxy, generic, go-http',
        ),
        ({"server": None}, "server: missing"),
        ({"stopSignal": "TERM"}, 'stopSignal: got "TERM", allowed: SIGTERM'),
        ({"startup": "fast"}, 'startup: got "fast", expected a duration'),
        ({"bodyBytes": -1}, "bodyBytes: got -1"),
        ({"onStop": {"SIGKILL": {}}}, "onStop.SIGKILL: unknown signal"),
        (
            {"onStop": {"SIGTERM": {"idle": "drop"}}},
            'onStop.SIGTERM.idle: got "drop", allowed: close, keep, closeAfterNext',
        ),
        ({"onStop": {"SIGTERM": {"exit": "after"}}}, "exitAfter: missing"),
        ({"onStop": {"SIGTERM": {"busy": "finish"}}}, "write `exit: drained`"),
        ({"onStop": {"SIGTERM": {"exits": "drained"}}}, "did you mean exit?"),
        ({"startTime": "1s"}, "startTime: unknown field"),
        ({"server": "nginx", "onStop": {"SIGTERM": {}}}, "onStop: unknown field"),
        ({"server": "haproxy", "version": "new"}, 'version: got "new", expected digits'),
        ({"server": "haproxy", "version": 2.6}, "version: got 2.6, expected a text (in quotes)"),
    ],
)
def test_bad_image(files, fields, part):
    """One line with the image, the field and what is allowed."""
    refused(files, part, **fields)


def test_an_undescribed_signal_ends_the_process_and_is_said(files):
    """No description is no graceful stop."""
    image(files)
    assert any(
        "SIGTERM is not described: it ends the process at once" in note for note in files.load().warnings
    )


# ---------------------------------------------------------------- presets


@pytest.mark.parametrize("name", PRESETS)
def test_presets(files, name):
    """Each is a generic server that knows SIGTERM, and says where it comes from."""
    read = image(files, server=name)
    assert (read.server, read.preset) == (ServerKind.GENERIC, name)
    assert read.behaviours["SIGTERM"] == PRESETS[name].behaviours["SIGTERM"]
    assert files.load().warnings == ()


@pytest.mark.parametrize(
    ("name", "listener", "busy", "when"),
    [
        ("go-http", OnListener.CLOSE, OnBusy.CUT, ExitWhen.AT_ONCE),
        ("go-http-shutdown", OnListener.CLOSE, OnBusy.FINISH, ExitWhen.DRAINED),
        ("node", OnListener.KEEP, OnBusy.FINISH, ExitWhen.NEVER),
        ("gunicorn", OnListener.CLOSE, OnBusy.FINISH, ExitWhen.DRAINED),
        ("uvicorn", OnListener.CLOSE, OnBusy.FINISH, ExitWhen.DRAINED),
        ("spring-boot", OnListener.CLOSE, OnBusy.FINISH, ExitWhen.DRAINED),
        ("spring-boot-immediate", OnListener.CLOSE, OnBusy.CUT, ExitWhen.AT_ONCE),
    ],
)
def test_what_a_preset_does_on_sigterm(name, listener, busy, when):
    """As its source says: Go's default kills, Node as PID 1 ignores, the others drain."""
    stop = PRESETS[name].behaviours["SIGTERM"]
    assert (stop.listener, stop.busy, stop.exit) == (listener, busy, when)


def test_a_preset_can_be_changed(files):
    """Single fields on top of a preset keep its others."""
    read = image(files, server="gunicorn", keepAlive=True, onStop={"SIGTERM": {"drainTimeout": "5s"}})
    assert read.keep_alive
    assert read.behaviours["SIGTERM"].drain_timeout_s == 5
    assert read.behaviours["SIGTERM"].busy is OnBusy.FINISH


# ---------------------------------------------------------------- official images


@pytest.mark.parametrize(
    ("reference", "signal", "version"),
    [
        ("nginx", "SIGQUIT", None),
        ("nginx:latest", "SIGQUIT", None),
        ("nginx:1.27-alpine", "SIGQUIT", "1.27"),
        ("nginx:1.19.4", "SIGTERM", "1.19.4"),
        ("nginx:1.19.5", "SIGQUIT", "1.19.5"),
        ("nginx:1.19", "SIGQUIT", "1.19"),
        ("nginx:1.18", "SIGTERM", "1.18"),
        ("nginx:1.11.4", "SIGTERM", "1.11.4"),
        ("nginx:1.12.0", "SIGQUIT", "1.12.0"),
        ("nginx:1.13.0", "SIGQUIT", "1.13.0"),
        ("nginx:1.13.1", "SIGTERM", "1.13.1"),
        ("library/nginx:1.27", "SIGQUIT", "1.27"),
        ("docker.io/library/nginx:1.27@sha256:0a", "SIGQUIT", "1.27"),
        ("public.ecr.aws/docker/library/nginx:1.27", "SIGQUIT", "1.27"),
        ("nginxinc/nginx-unprivileged:1.27", "SIGQUIT", "1.27"),
        ("haproxy:2.6", "SIGUSR1", "2.6"),
        ("haproxy:3.0.5-alpine", "SIGUSR1", "3.0.5"),
        ("haproxy:lts", "SIGUSR1", "2.6"),
        ("haproxy:3", "SIGUSR1", "3.0"),
    ],
)
def test_official_images(reference, signal, version):
    """The stop signal that each release of the image carries."""
    read, assumed = official_image(reference)
    assert (read.stop_signal, read.version) == (signal, version)
    assert signal in assumed


@pytest.mark.parametrize(
    "reference",
    ["my/nginx:1.27", "nginx-proxy:1", "ghcr.io/x/haproxy:2.6", "app:nginx", "localhost:5000/nginx"],
)
def test_other_images(reference):
    """Somebody else's image of that name is not the official one."""
    assert official_image(reference) is None


def test_official_image_without_a_description(files):
    """It is taken, and what is assumed is said."""
    files.container["image"] = "nginx:1.27"
    scenario = files.load()
    assert scenario.images["nginx:1.27"].stop_signal == "SIGQUIT"
    assert any("taken as the official nginx 1.27: stop signal SIGQUIT" in note for note in scenario.warnings)


def test_a_described_official_image_keeps_its_signal(files):
    """A description that leaves the signal out means the image's own."""
    files.container["image"] = "nginx:1.27"
    files.spec["images"]["nginx:1.27"] = {"server": "nginx", "startup": "2s"}
    del files.spec["images"]["app:red"]
    scenario = files.load()
    assert scenario.images["nginx:1.27"].stop_signal == "SIGQUIT"
    assert scenario.warnings == ()


def test_a_description_that_nothing_runs_is_said(files):
    """Most often its name has a slip of the pen; the images of the update are in use as those of the manifests."""
    assert files.load().warnings == ()
    files.spec["images"]["app:bleu"] = {"server": "nginx", "version": "1.22"}
    [note] = files.load().warnings
    assert note.endswith('spec.images: "app:bleu" is described, and no container runs it')
