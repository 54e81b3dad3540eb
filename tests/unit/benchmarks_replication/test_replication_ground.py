"""What a measurement of replication stands on: the same bytes in each run, frames that fit."""

import os
import ssl
from pathlib import Path

from benchmarks.replication.ground import (
    CHANGE_BYTES,
    DATA_EXTENTS,
    SECTOR_BYTES,
    Ground,
    write_certificates,
    write_data,
)
from benchmarks.replication.host_process import _frames
from certs.tls import client_context, server_context
from vmm_simulator.hyperv.disks import allocated_extents
from vmm_simulator.hyperv.frames import FrameVerifier

SCALE = 64


def test_a_change_set_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    ground = Ground(tmp_path, SCALE)
    first, again, other = (list(ground.changes(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == ground.change_count
    for offset, data in first:
        assert offset % SECTOR_BYTES == 0
        assert len(data) == CHANGE_BYTES
        assert offset + len(data) <= ground.disk_bytes


def test_the_disk_is_sparse_and_has_as_much_data_as_it_says(tmp_path: Path) -> None:
    ground = Ground(tmp_path, SCALE)
    write_data(ground.source, ground.disk_bytes, ground.data_bytes)
    assert ground.source.stat().st_size == ground.disk_bytes
    descriptor = os.open(ground.source, os.O_RDONLY)
    try:
        extents = list(allocated_extents(descriptor, ground.disk_bytes))
    finally:
        os.close(descriptor)
    found = sum(end - start for start, end in extents)
    # Whole blocks of the file system are allocated at both ends of an extent.
    assert ground.data_bytes - DATA_EXTENTS <= found <= ground.data_bytes + DATA_EXTENTS * 8_192


def test_the_frames_of_a_commit_are_whole_and_in_order(tmp_path: Path) -> None:
    ground = Ground(tmp_path, SCALE)
    stream = memoryview(_frames(ground, 3))
    verifier = FrameVerifier([ground.disk_bytes])
    assert verifier.whole_frames(stream) == len(stream)
    assert 0 < len(list(verifier.frames(stream))) <= ground.change_count
    assert verifier.ended


def test_the_certificates_serve_both_ends_and_keys_are_kept_to_ourselves(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    write_certificates(folder)
    root = (folder / "ca-cert.pem").read_text()
    for name in ("server", "client"):
        key = folder / f"{name}-key.pem"
        assert key.stat().st_mode & 0o777 == 0o600
        chain = (folder / f"{name}-cert.pem").read_text()
        connecting = client_context(root, chain_pem=chain, key_pem=key.read_bytes())
        assert connecting.verify_mode is ssl.CERT_REQUIRED
        server_context(chain, key.read_bytes(), client_ca_pems=(root,), require_client=True)
