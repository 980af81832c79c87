"""One new connection every few milliseconds to one address: when it is accepted, refused, or not answered.

Standard library only and by path: it is started inside the namespaces of the node and of a pod.
Prints `start of the connect (CLOCK_MONOTONIC), seconds, result`.
"""

import errno
import selectors
import socket
import sys
import time

ADDRESS, PORT, FOR_S, EVERY_S, PATIENCE_S = sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:6])

ready = selectors.DefaultSelector()
open_since: dict[socket.socket, float] = {}
rows: list[tuple[float, float, str]] = []
begun = due = time.monotonic()
while open_since or time.monotonic() < begun + FOR_S:
    now = time.monotonic()
    if now >= due and now < begun + FOR_S:
        due += EVERY_S
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        try:
            code = sock.connect_ex((ADDRESS, PORT))
        except OSError as error:
            code = error.errno or 0
        if code in {0, errno.EINPROGRESS}:
            open_since[sock] = now
            ready.register(sock, selectors.EVENT_WRITE)
        else:
            rows.append((now, 0.0, errno.errorcode.get(code, str(code))))
            sock.close()
    for key, _ in ready.select(0.001):
        sock = key.fileobj  # type: ignore[assignment]
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        rows.append(
            (open_since.pop(sock), time.monotonic(), errno.errorcode.get(code, "ok") if code else "ok")
        )
        ready.unregister(sock)
        sock.close()
    for sock, since in list(open_since.items()):
        if time.monotonic() - since > PATIENCE_S:
            rows.append((since, time.monotonic(), "silent"))
            ready.unregister(sock)
            del open_since[sock]
            sock.close()
for since, until, result in sorted(rows):
    print(f"{since:.6f},{max(0.0, until - since):.6f},{result}")
