"""The question to connection tracking and its answer, byte by byte."""

import socket
import struct

from validation.clients import conntrack


def reply_tuple(address):
    ip = conntrack._nested(conntrack.TUPLE_IP, conntrack._attribute(1, socket.inet_aton(address)))
    return conntrack._nested(conntrack.TUPLE_REPLY, ip)


def message(kind, body):
    return struct.pack("=IHHII", 20 + len(body), kind, 0, 1, 0) + struct.pack("=BBH", 2, 0, 0) + body


def test_the_answer_is_the_source_of_the_reply_direction():
    """After DNAT the pod's address is where replies come from."""
    answer = message(1 << 8, reply_tuple("10.244.0.7"))
    assert conntrack.answering_address(answer) == "10.244.0.7"


def test_an_error_message_is_no_address():
    """ENOENT: the kernel has forgotten the flow (a refused connect)."""
    assert conntrack.answering_address(message(2, struct.pack("=i", -2))) is None
    assert conntrack.answering_address(b"") is None


def test_the_question_carries_the_flow_in_network_order():
    """Addresses and ports stand in it as on the wire; the length covers all of it."""
    asked = conntrack.question(("127.0.0.3", 40001), ("127.0.0.1", 30300))
    assert struct.unpack_from("=I", asked)[0] == len(asked)
    assert socket.inet_aton("127.0.0.3") in asked
    assert struct.pack("!H", 30300) in asked
