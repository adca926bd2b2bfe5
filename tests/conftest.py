"""What all unit tests share: no settings of the person who runs them, no network, no chance."""

import socket

import pytest

import moda_utils  # noqa: F401 - before torch: it sets how torch waits for its threads


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sets what it needs; the shell's MODA_* never decide whether it passes."""
    for name in ("MODA_PROFILE", "MODA_HOME", "MODA_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_chance() -> None:
    """Weights and inputs that a test draws are the same alone as behind other tests."""
    import torch  # here, for `moda_utils` comes first

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine answers: a test that needs anything else fails at once and says so."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        local = self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost")
        if not local:
            raise OSError(f"a test tried to reach {address[0]}, outside this machine")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
