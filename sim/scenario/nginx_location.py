"""The locations of an nginx server: which one answers a path, from which file, and how late."""

from dataclasses import dataclass, replace
from math import ceil

from sim.scenario.model import NginxConf, NginxLocation
from sim.scenario.nginx_directives import Directive, file_path, number, seconds
from sim.scenario.nginx_scope import INHERITED, OF_CONNECTION, Scope, inherit, once, pass_over
from sim.scenario.nginx_values import check_pattern


def plain_location(scope: Scope, path: str) -> NginxLocation:
    return NginxLocation(
        path=path,
        root=scope.root,
        index=scope.index,
        limit_rate_bytes_per_s=float(scope.limit_rate_bytes_per_s) or None,
        limit_rate_after_bytes=scope.limit_rate_after_bytes,
        keepalive_timeout_s=scope.keepalive_timeout_s,
    )


def read_locations(blocks: list[Directive], scope: Scope) -> tuple[NginxLocation, ...]:
    """A server's locations; a pattern is left out where it answers as every other path does."""
    places: dict[tuple[bool, str], NginxLocation] = {}
    patterns: list[tuple[Directive, NginxLocation]] = []
    for block in blocks:
        modifier, path = _modifier_and_path(block)
        place = _read_location(block, scope, path, exact=modifier == "=")
        if modifier.startswith("~"):
            check_pattern(block, path)
            patterns.append((block, place))
        elif (place.exact, path) in places:
            block.reject(f"duplicate location {path}")
        elif not path.startswith("@"):  # a named one is reached only from what is refused
            places[place.exact, path] = place
    places.setdefault((False, "/"), plain_location(scope, "/"))
    answers = {replace(place, path="/", exact=False) for place in places.values()}
    for block, pattern in patterns:
        if answers != {replace(pattern, path="/", exact=False)}:
            block.refuse("a pattern that changes the answer is not modelled; use a prefix or =")
    return most_specific_first(list(places.values()))


def _modifier_and_path(block: Directive) -> tuple[str, str]:
    """`= /a` may be written `=/a`."""
    modifiers = ("=", "^~", "~*", "~")
    if len(block.args) == 2:
        modifier, path = block.args
        if modifier not in modifiers:
            block.wrong(modifier, "=, ^~, ~ or ~*")
        return modifier, path
    joined = block.args[0]
    modifier = next((start for start in modifiers if joined.startswith(start)), "")
    return modifier, joined.removeprefix(modifier)


def _read_location(location: Directive, scope: Scope, path: str, *, exact: bool) -> NginxLocation:
    alias: str | None = None
    answer: int | None = None
    echo = _Echo()
    needs_file = False
    outer = scope
    for directive in once(location.block):
        match directive.name:
            case "return":
                status = return_status(directive)
                answer = status if answer is None else answer  # the first one ends the request
            case "alias" if any(other.name == "root" for other in location.block):
                directive.reject("stands beside root")
            case "alias":
                alias = file_path(directive, directive.args[0])
            case "echo" | "echo_flush" | "echo_sleep":
                echo = echo.then(directive)
            case "stub_status":
                echo = replace(echo, used=True)
            case "try_files":
                check_try_files(directive)
                needs_file = True
            case "location":
                directive.refuse("a location inside a location is not modelled")
            case name if name in INHERITED:
                scope = inherit(scope, directive)
            case _:
                pass_over(directive)
        if any(getattr(scope, name) != getattr(outer, name) for name in OF_CONNECTION):
            directive.refuse("a value for one location alone is not modelled; set it in http")
    place = replace(plain_location(scope, path), exact=exact, alias=alias)
    if answer is not None:  # runs before any content: an echo_sleep beside it has no effect
        return replace(place, root=None, alias=None, status=answer)
    if echo.used:
        place = replace(place, header_delay_s=echo.header_delay_s, body_delay_s=echo.body_delay_s)
        place = place if needs_file else replace(place, root=None, alias=None)
    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Echo:
    """The echo commands of a location (echo-nginx-module 0.63), in their order.

    Output waits in nginx until it is flushed or complete, so a sleep before the first flush of some output
    delays the header, and one behind it the body.
    """

    used: bool = False
    wrote: bool = False
    flushed: bool = False
    header_delay_s: float = 0.0
    body_delay_s: float = 0.0

    def then(self, directive: Directive) -> "_Echo":
        if directive.name == "echo":
            return replace(self, used=True, wrote=True)
        if directive.name == "echo_flush":
            return replace(self, used=True, flushed=self.flushed or self.wrote)
        if len(directive.args) != 1:
            directive.reject("needs seconds, such as 0.5")
        late_s = seconds(directive, directive.args[0])
        if self.flushed:
            return replace(self, used=True, body_delay_s=self.body_delay_s + late_s)
        return replace(self, used=True, header_delay_s=self.header_delay_s + late_s)


def return_status(directive: Directive) -> int:
    """Status of a `return` line; a URL alone is a 302."""
    text = directive.args[0]
    if text.startswith(("http://", "https://", "$")):
        return 302
    code = number(directive, text)
    if code > 999:
        directive.wrong(text, "a status up to 999")
    if code == 444:
        directive.refuse("444 closes the connection without an answer, which is not modelled")
    return code


def check_try_files(directive: Directive) -> None:
    """`try_files $uri $uri/ =404` answers as a plain location does; any fallback hides a removed file."""
    *files, last = directive.args
    if last != "=404" or any(name not in ("$uri", "$uri/") for name in files):
        directive.refuse("only $uri, $uri/ and =404 are modelled: a fallback answers for a removed file")


def most_specific_first(places: list[NginxLocation]) -> tuple[NginxLocation, ...]:
    return tuple(sorted(places, key=lambda place: (not place.exact, -len(place.path))))


# ---------------------------------------------------------------- questions to a configuration


def location_of(conf: NginxConf, path: str, port: int | None = None) -> NginxLocation:
    """The location that answers *path* on *port*: an exact one, else the longest prefix."""
    path = path.partition("?")[0]
    for place in conf.locations:
        if port is not None and place.port not in (None, port):
            continue
        if path == place.path if place.exact else path.startswith(place.path):
            return place
    return conf.locations[-1]


def file_of(location: NginxLocation, path: str) -> str | None:
    """The file that answers *path*; None where the answer needs none (`return`, `echo`)."""
    path = path.partition("?")[0]
    if location.alias is not None:
        name = location.alias + path.removeprefix(location.path)
    elif location.root is not None:
        name = location.root.rstrip("/") + path
    else:
        return None
    return name + location.index[0] if name.endswith("/") else name


def stream_for_s(location: NginxLocation, n_bytes: int) -> float:
    """How long an answer of *n_bytes*, its header included, streams. [s]

    Notes
    -----
    nginx release-1.26.2 src/http/ngx_http_write_filter_module.c: `limit_rate` lets the first second's worth
    out at once and then one more each second, so n bytes at rate r take ceil(n / r) - 1 seconds.
    """
    if not location.limit_rate_bytes_per_s:
        return location.body_delay_s
    limited = max(0, n_bytes - location.limit_rate_after_bytes)
    return location.body_delay_s + max(0, ceil(limited / location.limit_rate_bytes_per_s) - 1)
