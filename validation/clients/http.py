"""Just enough HTTP/1.1 to know when an answer is complete. No socket in sight."""

import re

HEADER_END = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[^\r]*close", re.IGNORECASE)
HTTP_1_0 = b"HTTP/1.0"


class BrokenAnswer(Exception):
    """What came is no HTTP answer."""


def request_bytes(method: str, path: str, host: str, *, keep_alive: bool) -> bytes:
    """One request without a body."""
    connection = "keep-alive" if keep_alive else "close"
    length = "Content-Length: 0\r\n" if method in ("POST", "PUT", "PATCH") else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n"
        f"User-Agent: rollsim\r\nAccept: */*\r\n{length}\r\n"
    ).encode("ascii")


class Answer:
    """Collects the bytes of one answer."""

    __slots__ = ("_body_end", "_chunked", "_data", "_has_body", "close", "complete", "n_bytes", "status")

    def __init__(self, method: str = "GET") -> None:
        self._has_body = method != "HEAD"
        self._data = b""
        self._body_end: int | None = None
        self._chunked = False
        self.status = 0
        self.close = False
        """The server said that it closes the connection after this answer."""
        self.complete = False
        self.n_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take what the socket gave.

        Raises
        ------
        BrokenAnswer
            The status line is not HTTP.
        """
        self.n_bytes += len(data)
        if self._body_end is not None:
            self.complete = self.n_bytes >= self._body_end
            return
        self._data += data
        if not self.status:
            self._read_header()
        elif self._chunked:
            self._data = self._data[-5:]
        if self._chunked:
            self.complete = self._data.endswith(b"0\r\n\r\n")

    def end(self) -> bool:
        """The server has closed: whether that completes the answer (a body without a length)."""
        return bool(self.status) and self._body_end is None and not self._chunked

    def _read_header(self) -> None:
        end = self._data.find(HEADER_END)
        if end < 0:
            return
        header = self._data[:end]
        try:
            self.status = int(header[9:12]) if header.startswith(b"HTTP/1.") else int("no")
        except ValueError:
            raise BrokenAnswer(repr(header[:40])) from None
        length = CONTENT_LENGTH.search(header)
        self.close = header.startswith(HTTP_1_0) or CLOSE.search(header) is not None
        if not self._has_body or self.status in (204, 304):
            self._body_end = 0
        elif length:
            self._body_end = end + 4 + int(length[1])
        else:
            self._chunked = CHUNKED.search(header) is not None
            self.close = self.close or not self._chunked
            self._data = self._data[end + 4 :][-5:]
            return
        self.complete = self.n_bytes >= self._body_end
