"""What a hook's command does in time: sleeps, removed files, signals to the server. Anything else is refused.

Only the part of the shell that hooks are written in: words and quotes, `;`, newlines, `&&`, `||`, and the
commands of `COMMANDS`. Commands but `sleep` take no time.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sim.errors import UnsupportedInput

COMMANDS: Final = (
    "sleep", "rm", "nginx -s quit|stop", "kill -SIGNAL 1", "killall/pkill -SIGNAL SERVER", "echo", "true",
    "false", "exit",
)  # fmt: skip

FOREVER_S: Final = 1e9
"""`sleep infinity`: longer than any grace period."""

SHELLS: Final = frozenset({"sh", "bash", "ash", "dash"})
_TOKEN: Final = re.compile(
    r"""(?P<blank>[ \t]+) | (?P<comment>\#[^\n]*) | (?P<operator>&&|\|\||;|\n|&|\||\(|\)|<|>)
      | (?P<word>(?:'[^']*' | "(?:\\.|[^"\\])*" | \\. | \$\([^()]*\) | `[^`]*` | [^\s;&|()<>'"\\`\#$]
        | \$(?![(]) | (?<=\S)\#)+)""",
    re.VERBOSE | re.DOTALL,
)
_QUIET: Final = re.compile(
    r"(?<!\s)\s*(?:[12&]?>>?\s*(?:/dev/null|/dev/stdout|/dev/stderr|/proc/1/fd/[12])|[12]?>&[12])"
)
_SLEEP: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([smhd]?)")
_SLEEP_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PID_OF_SERVER: Final = re.compile(r"1|(?:\$\(|`)\s*(?:cat\s+\S+\.pid|pidof\s+(?:nginx|haproxy))\s*(?:\)|`)")
_NGINX_SIGNALS: Final = {"quit": "SIGQUIT", "stop": "SIGTERM"}
_NUMBERS: Final = {
    "1": "SIGHUP",
    "2": "SIGINT",
    "3": "SIGQUIT",
    "9": "SIGKILL",
    "10": "SIGUSR1",
    "12": "SIGUSR2",
    "15": "SIGTERM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFiles:
    """What is known of a container's files: enough to say whether an `rm` succeeds."""

    read_only: tuple[str, ...] = ()
    """Paths of mounts that nothing can be removed from (ConfigMap, Secret, subPath, readOnly)."""
    empty: tuple[str, ...] = ()
    """Directories that start empty (emptyDir)."""
    asked_for: frozenset[str] = frozenset()
    """Files that a probe needs: they exist as long as nobody removes them."""
    working_dir: str | None = None


@dataclass(slots=True)
class Effects:
    """What a command line does, from its start on."""

    duration_s: float = 0.0
    removes: list[tuple[float, str]] = field(default_factory=list)
    signals: list[tuple[float, str]] = field(default_factory=list)
    status: int = 0
    ended: bool = False
    warnings: list[str] = field(default_factory=list)


def read_command(argv: Sequence[str], files: ContainerFiles) -> Effects:
    """The effects of an exec hook's command.

    Raises
    ------
    UnsupportedInput
        Names the part that cannot be read; the caller adds where it stands.
    """
    effects = Effects()
    words = list(argv)
    program = posixpath.basename(words[0])
    if program in SHELLS:
        while len(words) > 1 and re.fullmatch(r"-[eux]+", words[1]):
            words.pop(1)
        if len(words) < 3 or not re.fullmatch(r"-[elux]*c", words[1]):
            raise UnsupportedInput(f"the script {' '.join(argv)!r} cannot be read")
        _run_line(words[2], effects, files, stop_on_failure="e" in words[1] or "-e" in argv)
    else:
        _run(words, effects, files)
    return effects


def _run_line(line: str, effects: Effects, files: ContainerFiles, *, stop_on_failure: bool) -> None:
    joined = ";"
    for operator, words in _commands(line):
        runs = joined in (";", "&&" if effects.status == 0 else "||")
        joined = operator
        if not runs:
            continue
        _run(words, effects, files)
        if effects.ended or (stop_on_failure and effects.status and operator == ";"):
            return


def _commands(line: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the operator that follows it (`;` at the end)."""
    words: list[str] = []
    position = 0
    while position < len(line):
        if not words or (line[position].isspace() or line[position] in "12&>"):
            quiet = _QUIET.match(line, position) if words else None
            if quiet:
                position = quiet.end()
                continue
        match = _TOKEN.match(line, position)
        if match is None:
            raise UnsupportedInput(f"{line[position : position + 20]!r} in the shell line cannot be read")
        position = match.end()
        if match["operator"]:
            operator = ";" if match["operator"] == "\n" else match["operator"]
            if operator not in (";", "&&", "||"):
                raise UnsupportedInput(f"{operator!r} in the shell line cannot be read")
            if words:
                yield operator, words
                words = []
        elif match["word"]:
            words.append(match["word"])
    if words:
        yield ";", words


def _run(raw: Sequence[str], effects: Effects, files: ContainerFiles) -> None:
    words = [_unquoted(word) for word in raw]
    name, arguments = posixpath.basename(words[0]), words[1:]
    if name == "exec" and arguments:
        _run(raw[1:], effects, files)
        effects.ended = True
        return
    unreadable = {"kill": (), "echo": ("$(", "`"), "printf": ("$(", "`")}.get(name, ("$", "`"))
    if any(sign in word for sign in unreadable for word in raw if not word.startswith("'")):
        raise UnsupportedInput(f"the variable in {' '.join(raw)!r} cannot be read")
    match name:
        case "sleep" if arguments:
            effects.duration_s += sum(_sleep_s(word) for word in arguments)
            effects.status = 0
        case "true" | ":" | "echo" | "printf" | "sync" | "date":
            effects.status = 0
        case "false":
            effects.status = 1
        case "exit":
            effects.status, effects.ended = (
                int(arguments[0]) if arguments and arguments[0].isdigit() else effects.status,
                True,
            )
        case "rm":
            effects.status = _remove(arguments, effects, files)
        case "nginx" | "openresty" if (
            arguments[:1] == ["-s"] and arguments[1:] and arguments[1] in _NGINX_SIGNALS
        ):
            _signal(_NGINX_SIGNALS[arguments[1]], effects)
        case "kill" if arguments and _PID_OF_SERVER.fullmatch(arguments[-1]):
            _signal(_signal_name(arguments[:-1], raw), effects)
        case "killall" | "pkill" if arguments and arguments[-1] in ("nginx", "haproxy"):
            _signal(_signal_name(arguments[:-1], raw), effects)
        case _:
            raise UnsupportedInput(
                f"the command {' '.join(raw)!r} cannot be read (known: {', '.join(COMMANDS)})"
            )


def _unquoted(word: str) -> str:
    if word.startswith(("$(", "`")):
        return word
    return re.sub(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)", lambda m: m[1] or m[2] or m[3] or "", word)


def _sleep_s(word: str) -> float:
    if word in ("infinity", "inf"):
        return FOREVER_S
    match = _SLEEP.fullmatch(word)
    if match is None:
        raise UnsupportedInput(f"the time of `sleep {word}` cannot be read")
    return float(match[1]) * _SLEEP_UNITS_S[match[2]]


def _signal_name(options: Sequence[str], raw: Sequence[str]) -> str:
    match list(options):
        case []:
            return "SIGTERM"
        case ["-s" | "--signal", name] | ["--", name]:
            word = name
        case [name] if name.startswith("-"):
            word = name.removeprefix("--signal=").removeprefix("-")
        case _:
            raise UnsupportedInput(f"the signal in {' '.join(raw)!r} cannot be read")
    word = word.upper()
    return _NUMBERS.get(word, word if word.startswith("SIG") else f"SIG{word}")


def _signal(name: str, effects: Effects) -> None:
    effects.signals.append((effects.duration_s, name))
    effects.status = 0


def _remove(arguments: Sequence[str], effects: Effects, files: ContainerFiles) -> int:
    """Remove files as `rm` does. Returns its exit status."""
    options = [word for word in arguments if re.fullmatch(r"-[a-zA-Z]+|--\w*", word)]
    force = any("f" in word for word in options if not word.startswith("--")) or "--force" in options
    status = 0
    for word in arguments:
        if word in options:
            continue
        path = _absolute(word, files)
        gone = any(removed == path for _, removed in effects.removes)
        if any(_inside(path, mount) for mount in files.read_only):
            effects.warnings.append(
                f"`rm {word}` fails: the file is on a read-only mount, and `&&` skips what follows"
            )
            status = 1
        elif gone or (path not in files.asked_for and any(_inside(path, folder) for folder in files.empty)):
            status = status if force else 1
        else:
            if path not in files.asked_for and not force:
                effects.warnings.append(f"`rm {word}`: no probe asks for {path}; taken to exist in the image")
            effects.removes.append((effects.duration_s, path))
    return status


def _absolute(word: str, files: ContainerFiles) -> str:
    if any(character in word for character in "*?["):
        raise UnsupportedInput(f"the pattern {word!r} of `rm` cannot be read")
    if word.startswith("/"):
        return posixpath.normpath(word)
    if files.working_dir is not None:
        return posixpath.normpath(posixpath.join(files.working_dir, word))
    found = [path for path in files.asked_for if path.endswith("/" + posixpath.normpath(word))]
    if len(found) != 1:
        raise UnsupportedInput(f"`rm {word}` depends on the image's working directory: write the whole path")
    return found[0]


def _inside(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")
