"""What a guest makes of answers that came while it did not run."""

import socket
from pathlib import Path
from typing import Any, cast

import pytest

from vmm_simulator.guest import workload
from vmm_simulator.guest.frames import FrameDecoder, Kind, encode_frame, encode_number, parse_number
from vmm_simulator.guest.layout import GuestLayout
from vmm_simulator.guest.workload import HostLink, StorageFailedError, Work, Workload


class PromptHost(HostLink):
    """A host that has answered a flush before the guest looks at its clock again."""

    def __init__(self, own: socket.socket, host: socket.socket, *, answers: bool) -> None:
        super().__init__(own)
        self.host = host
        self.answers = answers

    def send(self, data: bytes) -> None:
        """Answer a flush at once."""
        for frame in FrameDecoder().feed(data):
            if self.answers and frame.kind is Kind.FLUSH:
                self.host.sendall(encode_number(Kind.FLUSHED, parse_number(frame.body)))


def run(monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
    """Run a guest that writes nothing and is asked to stop; its time for a flush is over."""
    own, other = socket.socketpair()
    with own, other:
        layout = cast("GuestLayout", type("NoLayout", (), {"seed": b"a machine's seed"})())
        work = Work("vm-1", 1, 0.0, layout, cast("Any", [Path()]), lambda: 0)
        other.sendall(encode_frame(Kind.STOP))
        link = PromptHost(own, other, answers=answers)
        monkeypatch.setattr(workload, "HOST_SECONDS_MAX", -1.0)
        Workload(work, None, link, None).run()


def test_an_answer_that_came_during_a_pause_counts_however_long_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        run(patched, answers=True)
    with monkeypatch.context() as patched, pytest.raises(StorageFailedError, match="no flush"):
        run(patched, answers=False)
