"""Replication over a bad line: slow, lossy, and one that stands still."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.lossy_network import (
    ADDRESSES,
    LOSS_PERCENT,
    RATE_KILOBITS,
    LineError,
    LossyLine,
    lossy_line,
)
from tests.support.relay import Relay
from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    Pair,
    client_tls,
    on_uvloop,
    pair,
    server_tls,
)
from vmm_simulator.hyperv import host_client
from vmm_simulator.hyperv.backend import CutKind, PeerAddress, TransferRefusedError
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.peer_proof import CertificateProof
from vmm_simulator.hyperv.replica_listener import ReplicaListener

PORT = 8084
TRIES_MAX = 10
COPIED_BYTES = 6 * BLOCK
"""Some four hundred packets, one way or the other: that none is lost is out of the question."""

BYTES_PER_SECOND = RATE_KILOBITS * 1000 / 8


@pytest.fixture
def line(tell: Callable[[str], None]) -> Iterator[LossyLine]:
    """A line of 1 Mbit/s that loses one packet in twenty."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(lossy_line())
        except LineError as error:
            text = f"no bad line can be made here: {error}"
            tell(text)
            if os.environ.get("CI") == "true":
                pytest.fail(f"{text}; with CI=true nothing may be skipped")
            pytest.skip(text)
        yield made


class LineClient(HostClient):
    """A host at one end of the line."""

    def __init__(self, line: LossyLine) -> None:
        super().__init__(lambda: client_tls(PRIMARY_FQDN))
        self._line = line

    async def _way(self, peer: PeerAddress) -> socket.socket:
        way = self._line.socket(0)
        try:
            way.setblocking(False)  # noqa: FBT003 -- the socket module's signature
            await asyncio.get_running_loop().sock_connect(way, (peer.address, peer.port))
        except BaseException:
            way.close()
            raise
        return way


async def replicate(both: Pair, kind: CutKind, cut: int) -> None:
    """Replicate as a cycle does: again, when the line gave up."""
    for _ in range(TRIES_MAX):
        try:
            await both.replicate(kind, cut)
        except TransferRefusedError as refusal:
            # Only the acknowledgement was lost on the way.
            if refusal.applied is None or refusal.applied.cut != cut:
                raise
            return
        except OSError:
            continue
        return
    raise AssertionError("the line gave up too often")


def test_a_machine_is_replicated_over_a_slow_and_lossy_line(
    tmp_path: Path, line: LossyLine, tell: Callable[[str], None]
) -> None:
    @on_uvloop
    async def over_the_line() -> None:
        async with pair(tmp_path) as both:
            host, answers = both.osaka, both.osaka.answers
            listener = ReplicaListener(
                host.backend,
                control=answers.control,
                authorize_transfer=answers.authorize_transfer,
                applied=answers.note_applied,
                failed=answers.note_failed,
            )
            listening = line.socket(1)
            listening.bind((ADDRESSES[1], PORT))
            listening.listen()
            await listener.start(listening, CertificateProof(server_tls(REPLICA_FQDN)))
            try:
                host.address = PeerAddress(REPLICA_FQDN, ADDRESSES[1], PORT)
                both.tokyo._client = LineClient(line)
                both.write(0, 3 * BLOCK, os.urandom(COPIED_BYTES))
                began = time.monotonic()
                await replicate(both, CutKind.FULL, 1)
                seconds = time.monotonic() - began
                both.write(1, 0, os.urandom(4096))
                both.write(0, 3 * BLOCK, bytes(BLOCK))
                host.address = replace(host.address, compression=True)
                await replicate(both, CutKind.DELTA, 2)
                await host.backend.apply_committed(MACHINE)
                assert both.equal()
            finally:
                await listener.aclose()
        # That the line was slow and lossy is part of the test.
        assert seconds > COPIED_BYTES / BYTES_PER_SECOND * 0.8
        assert line.lost() > 0
        tell(
            f"{RATE_KILOBITS} kbit/s with {LOSS_PERCENT} % loss (namespaces, tc tbf, nftables): "
            f"{COPIED_BYTES} bytes in {seconds:.1f} s, {line.lost()} packets lost"
        )

    over_the_line()


@on_uvloop
async def test_a_line_that_stands_still_for_a_while_costs_time_only(tmp_path: Path) -> None:
    async with pair(tmp_path) as both, Relay.opened(both.osaka.address.port) as relay:
        both.osaka.address = replace(both.osaka.address, port=relay.port)
        both.write(0, 0, os.urandom(30 * BLOCK))
        stood_still = asyncio.Event()

        def stop_the_line(_done: int) -> None:
            relay.silence()
            stood_still.set()

        change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)
        header = both.header(change_set)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(
                both.tokyo.send(change_set, both.osaka.address, header, stop_the_line)
            )
            await stood_still.wait()
            done, _ = await asyncio.wait({sending}, timeout=0.5)
            assert not done
            relay.speak()
        await both.tokyo.release(change_set, acknowledged=True)
        assert both.equal()


@on_uvloop
async def test_a_line_that_stands_still_too_long_is_given_up_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as both, Relay.opened(both.osaka.address.port) as relay:
        both.osaka.address = replace(both.osaka.address, port=relay.port)
        await both.replicate(CutKind.FULL, 1)
        both.write(0, 0, b"a" * BLOCK)
        relay.silence()
        with monkeypatch.context() as patch:
            patch.setattr(host_client, "CONNECT_SECONDS_MAX", 0.5)
            with pytest.raises(TimeoutError):
                await both.replicate(CutKind.DELTA, 2)
        relay.speak()
        await both.replicate(CutKind.DELTA, 2)
        assert both.equal()
