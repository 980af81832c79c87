"""Who is to blame: the user's input (one line, exit code 2) or us (a traceback)."""


class InputError(Exception):
    """A file or an option that cannot be used as it is.

    The message is one line that names the file, the field, what was read and what is allowed.
    """


class UnsupportedInput(InputError):
    """Valid input that the model does not cover and that could change the answer."""


class ModelBug(Exception):
    """The model broke one of its own rules. Please report it with the scenario and the seed."""
