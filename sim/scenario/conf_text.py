"""One setting changed in the text of an nginx.conf or a haproxy.cfg, the rest left as it is written."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sim.errors import InputError, UnsupportedInput

MAX_CONF: Final = 500_000
"""Characters of one configuration; the API server takes a ConfigMap of 1 MiB."""

TEMPLATING: Final = re.compile(r"\{\{[^{}\n]*\}\}|\{%[^%\n]*%\}")  # linear in a file of braces too
RENDER_IT: Final = "templating is left in; render it first (helm template)"


def check_text(text: str, where: str) -> None:
    """Before a configuration is read.

    Raises
    ------
    InputError
        Templating was left in (but for comments), or it is longer than any that is written by hand.
    """
    if len(text) > MAX_CONF:
        raise UnsupportedInput(f"{where}: longer than {MAX_CONF} characters, the most that is read")
    for found in TEMPLATING.finditer(text):
        if "#" not in text[text.rfind("\n", 0, found.start()) + 1 : found.start()]:
            line = text.count("\n", 0, found.start()) + 1
            raise InputError(f"{where} line {line}: got {found[0][:60]}: {RENDER_IT}")


# ---------------------------------------------------------------- haproxy.cfg

_SECTIONS: Final = frozenset(
    """
    global defaults frontend backend listen resolvers mailers peers ring userlist cache program http-errors
    log-forward fcgi-app
    """.split()  # noqa: SIM905
)
_HAPROXY_WORD: Final = re.compile(r"(?:\\.|\"[^\"]*\"|'[^']*'|[^\s#])+|#.*")
_OF_A_SERVER: Final = frozenset({"server", "server-template", "default-server"})
_SERVER_FLAGS: Final = frozenset({"check", "backup", "disabled", "send-proxy"})


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    """For example `listen myapp`; `defaults` without a name of its own."""
    first: int
    """Line after the header."""
    end: int


def haproxy_sections(text: str) -> list[str]:
    return [section.name for section in _sections(text.splitlines())]


def set_in_haproxy(text: str, section: str, keyword: Sequence[str], value: str | bool | None) -> str | None:
    """*text* with `keyword value` in every section of that name; None where there is no such section.

    A section can be named by its kind alone (`listen`). True is the bare keyword, False `no keyword`, None
    removes the line. `server NAME PARAM` changes one parameter of that server's line.
    """
    lines = text.splitlines()
    found = [place for place in _sections(lines) if section in (place.name, place.name.split()[0])]
    if not found:
        return None
    for place in reversed(found):
        body = lines[place.first : place.end]
        lines[place.first : place.end] = _set_line(body, list(keyword), value)
    return "\n".join(lines) + "\n"


def _sections(lines: Sequence[str]) -> list[_Section]:
    heads = [
        (index, words)
        for index, line in enumerate(lines)
        if (words := _haproxy_words(line)) and words[0] in _SECTIONS
    ]
    ends = [index for index, _ in heads[1:]] + [len(lines)]
    return [
        _Section(" ".join(words[:2]), index + 1, end) for (index, words), end in zip(heads, ends, strict=True)
    ]


def _haproxy_words(line: str) -> list[str]:
    return [word for word in _HAPROXY_WORD.findall(line) if not word.startswith("#")]


def _set_line(body: list[str], keyword: list[str], value: str | bool | None) -> list[str]:
    at = [index for index, line in enumerate(body) if _starts_with(_haproxy_words(line), keyword)]
    if keyword[0] in _OF_A_SERVER and not at:
        n_named = 1 if keyword[0] == "default-server" else 2
        of_server, param = keyword[:n_named], keyword[n_named:]
        return [
            _with_param(line, param, value)
            if param and _starts_with(_haproxy_words(line), of_server)
            else line
            for line in body
        ]
    line = _haproxy_line(keyword, value)
    kept = [text for index, text in enumerate(body) if index not in at]
    if line is None:
        return kept
    place = at[0] if at else _last_used(body)
    indent = re.match(r"\s*", body[at[0]])[0] if at else "  "  # type: ignore[index]
    return [*kept[:place], indent + line, *kept[place:]]


def _haproxy_line(keyword: Sequence[str], value: str | bool | None) -> str | None:
    text = " ".join(keyword)
    if value is None:
        return None
    if isinstance(value, bool):
        return text if value else f"no {text}"
    return f"{text} {value}"


def _starts_with(words: Sequence[str], keyword: Sequence[str]) -> bool:
    words = words[1:] if words[:1] == ["no"] else words
    return list(words[: len(keyword)]) == list(keyword)


def _last_used(body: Sequence[str]) -> int:
    used = [index for index, line in enumerate(body) if line.strip()]
    return used[-1] + 1 if used else 0


def _with_param(line: str, param: Sequence[str], value: str | bool | None) -> str:
    words = _haproxy_words(line)
    name = " ".join(param)
    width = 1 if name in _SERVER_FLAGS else 2
    if name in words:
        at = words.index(name)
        del words[at : at + width]
    if value is not None and value is not False:
        words += [name] if value is True else [name, str(value)]
    return (re.match(r"\s*", line) or [""])[0] + " ".join(words)


# ---------------------------------------------------------------- nginx.conf

_NGINX_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*) | (?P<end>[{};])
      | (?P<word>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | (?:\\.|\$\{[^}]*\}|[^\s{};])+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Statement:
    context: tuple[str, ...]
    """The blocks around it, each by its words: `("http", "server", "location /")`."""
    words: tuple[str, ...]
    start: int
    end: int
    """Behind its `;`, or for a block behind its `{`."""
    is_block: bool


def nginx_blocks(text: str) -> list[tuple[str, ...]]:
    """The blocks of the file by their words: `("http", "server", "location /")`."""
    return list(
        dict.fromkeys(
            (*found.context, " ".join(found.words)) for found in _statements(text) if found.is_block
        )
    )


def set_in_nginx(text: str, context: Sequence[str], directive: str, value: str | None) -> str | None:
    """*text* with `directive value;` in every block *context*; None where there is no such block.

    A block can be named by its first word alone (`location`). None removes the directive.
    """
    statements = list(_statements(text))
    blocks = [
        (found.end, (*found.context, " ".join(found.words)))
        for found in statements
        if found.is_block and _is_context((*found.context, " ".join(found.words)), context)
    ]
    if not context:
        blocks = [(0, ())]
    if not blocks:
        return None
    edits: list[tuple[int, int, str]] = []
    new = None if value is None else f"{directive} {value};"
    present = [
        found
        for found in statements
        if not found.is_block and found.words[0] == directive and _is_context(found.context, context)
    ]
    edits += [(found.start, found.end, new or "") for found in present]
    inside = [_block_of(found.start, blocks) for found in present]
    if new is not None:
        edits += [
            (start, start, f" {new}" if start else f"{new}\n") for start, _ in blocks if start not in inside
        ]
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _block_of(position: int, blocks: Sequence[tuple[int, tuple[str, ...]]]) -> int:
    """Start of the named block that *position* lies in: the last one that opens before it."""
    return max((start for start, _ in blocks if start <= position), default=0)


def _is_context(actual: Sequence[str], asked: Sequence[str]) -> bool:
    return len(actual) == len(asked) and all(
        want in (have, have.split()[0]) for have, want in zip(actual, asked, strict=True)
    )


def _statements(text: str) -> Iterator[_Statement]:
    context: list[str] = []
    words: list[str] = []
    start = position = 0
    while position < len(text) and (match := _NGINX_TOKEN.match(text, position)):
        if match["word"]:
            if not words:
                start = match.start()
            words.append(match["word"])
        elif match["end"] in ("{", ";") and words:
            is_block = match["end"] == "{"
            yield _Statement(tuple(context), tuple(words), start, match.end(), is_block)
            if is_block:
                context.append(" ".join(words))
            words = []
        elif match["end"] == "}" and context:
            context.pop()
            words = []
        position = match.end()
