import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import lab.addresses
from lab.addresses import claim_network, common_folder, free_ports
from service_shell.errors import ProgramError

OCTETS = range(200, 204)
"""Apart from those of real labs, which may run at the same time."""

HOLD = """
import sys
from pathlib import Path
import lab.addresses
from lab.addresses import claim_network
lab.addresses.SECOND_OCTETS = range(200, 204)
network = claim_network(Path(sys.argv[1]))
print(network.prefix, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _networks_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.addresses, "SECOND_OCTETS", OCTETS)


def holder(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=20)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_two_estates_get_different_networks(tmp_path: Path) -> None:
    first, second = claim_network(tmp_path), claim_network(tmp_path)
    assert first.prefix != second.prefix
    assert first.hub_address == f"{first.prefix}.1"
    first.release()
    third = claim_network(tmp_path)
    assert third.prefix == first.prefix
    second.release()
    third.release()


def test_another_process_keeps_its_network_until_it_is_killed(tmp_path: Path) -> None:
    process, prefix = holder(tmp_path)
    try:
        mine = claim_network(tmp_path)
        assert mine.prefix != prefix
        mine.release()
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        again = claim_network(tmp_path)
        assert again.prefix == prefix
        again.release()
    finally:
        end(process)


def test_the_network_stays_taken_while_a_child_holds_a_copy(tmp_path: Path) -> None:
    network = claim_network(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        text=True,
        pass_fds=(network.descriptor,),
    )
    prefix = network.prefix
    network.release()
    other = claim_network(tmp_path)
    assert other.prefix != prefix
    other.release()
    end(child)
    again = claim_network(tmp_path)
    assert again.prefix == prefix
    again.release()


def test_a_lock_file_of_another_user_is_respected(tmp_path: Path) -> None:
    network = claim_network(tmp_path)
    path = tmp_path / f"site-recovery-lab-{network.prefix}.0"
    assert path.stat().st_mode & 0o777 == 0o644
    # Only reading is needed to take the lock, so another user's stale file is reclaimed.
    network.release()
    path.chmod(0o444)
    again = claim_network(tmp_path)
    assert again.prefix == network.prefix
    again.release()


def test_a_network_where_somebody_listens_is_left_alone(tmp_path: Path) -> None:
    first = claim_network(tmp_path)
    first.release()
    with socket.socket() as stranger:
        stranger.bind((f"{first.prefix}.10", 8084))
        stranger.listen()
        second = claim_network(tmp_path)
        assert second.prefix != first.prefix
        second.release()


def test_when_all_are_taken_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.addresses, "SECOND_OCTETS", range(200, 201))
    monkeypatch.setattr(lab.addresses, "THIRD_OCTETS", range(2))
    taken = [claim_network(tmp_path), claim_network(tmp_path)]
    with pytest.raises(ProgramError, match="make lab-down"):
        claim_network(tmp_path)
    for network in taken:
        network.release()


def test_only_a_folder_that_all_may_write_is_common(tmp_path: Path) -> None:
    private, common = tmp_path / "private", tmp_path / "common"
    private.mkdir(mode=0o755)
    common.mkdir()
    common.chmod(0o1777)
    assert common_folder([tmp_path / "missing", private, common]) == common
    with pytest.raises(ProgramError, match="writable for all"):
        common_folder([private])


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = free_ports("127.0.0.1", 20)
    assert len(set(ports)) == 20
    assert all(1024 <= port <= 65_535 for port in ports)


def test_no_descriptor_leaks_from_taken_networks(tmp_path: Path) -> None:
    first = claim_network(tmp_path)
    before = open_descriptors()
    second = claim_network(tmp_path)
    second.release()
    assert open_descriptors() == before
    first.release()
