"""Ports of this machine: a free one, and one where nobody listens."""

import socket


def free_port() -> int:
    """A port that nobody has at this moment, for a server that is started at once."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def nobodys_port() -> int:
    """A port that refuses whoever calls: it stays taken as long as this process lives."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.detach()  # the port stays with the process, not with this object
    return port
