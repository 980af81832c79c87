"""Which pod a connection was sent to: one question to the kernel's connection tracking over netlink.

Needs CAP_NET_ADMIN in the network namespace where kube-proxy's rules apply; without it every answer is None.
"""

import socket
import struct

NETLINK_NETFILTER = 12
CT_GET = (1 << 8) | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET; linux/netfilter/nfnetlink_conntrack.h
NLM_F_REQUEST = 1
NESTED = 0x8000
TUPLE_ORIGINAL, TUPLE_REPLY = 1, 2
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_SOURCE, IP_DESTINATION = 1, 2
PROTO_NUMBER, PROTO_SOURCE_PORT, PROTO_DESTINATION_PORT = 1, 2, 3
HEADERS_BYTES = 16 + 4  # nlmsghdr, nfgenmsg


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = -len(payload) % 4
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * padding


def _nested(kind: int, *parts: bytes) -> bytes:
    return _attribute(NESTED | kind, b"".join(parts))


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[length + (-length % 4) :]
    return found


def question(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """The netlink message that asks for the TCP flow *source* → *destination*, as its sender sees it."""
    tuple_ = _nested(
        TUPLE_ORIGINAL,
        _nested(
            TUPLE_IP,
            _attribute(IP_SOURCE, socket.inet_aton(source[0])),
            _attribute(IP_DESTINATION, socket.inet_aton(destination[0])),
        ),
        _nested(
            TUPLE_PROTO,
            _attribute(PROTO_NUMBER, bytes([socket.IPPROTO_TCP])),
            _attribute(PROTO_SOURCE_PORT, struct.pack("!H", source[1])),
            _attribute(PROTO_DESTINATION_PORT, struct.pack("!H", destination[1])),
        ),
    )
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + tuple_
    return struct.pack("=IHHII", 16 + len(body), CT_GET, NLM_F_REQUEST, 1, 0) + body


def answering_address(answer: bytes) -> str | None:
    """The address that answers the flow (the pod, after DNAT); None where the kernel knows no such flow."""
    if len(answer) < HEADERS_BYTES or struct.unpack_from("=H", answer, 4)[0] != (1 << 8):
        return None
    reply = _attributes(answer[HEADERS_BYTES:]).get(TUPLE_REPLY, b"")
    source = _attributes(_attributes(reply).get(TUPLE_IP, b"")).get(IP_SOURCE)
    return socket.inet_ntoa(source) if source else None


class Conntrack:
    """Asks the kernel; silent (None) where it may not."""

    def __init__(self) -> None:
        try:
            self._socket: socket.socket | None = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER
            )
            self._socket.settimeout(0.05)
        except OSError:
            self._socket = None

    def pod_of(self, source: tuple[str, int], destination: tuple[str, int]) -> str | None:
        """Address of the pod that the TCP flow was sent to."""
        if self._socket is None:
            return None
        try:
            self._socket.send(question(source, destination))
            return answering_address(self._socket.recv(8192))
        except OSError:
            return None
