"""Who is to blame: the user's input (one line, exit code 2) or us (a traceback)."""

from typing import Final

_MOST_SHOWN: Final = 1500


def one_clear_line(message: object) -> str:
    """A message that quotes somebody else's words, without their line breaks, control characters and length."""
    text = " ".join(str(message).splitlines())
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) > _MOST_SHOWN:
        text = f"{text[: _MOST_SHOWN * 2 // 3]} […] {text[-_MOST_SHOWN // 3 :]}"
    return text


class InputError(Exception):
    """A file or an option that cannot be used as it is.

    The message is one line that names the file, the field, what was read and what is allowed.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_clear_line(message))


class UnsupportedInput(InputError):
    """Valid input that the model does not cover and that could change the answer."""


class ModelBug(Exception):
    """The model broke one of its own rules. Please report it with the scenario and the seed."""
