import asyncio
import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from certs.identity import new_private_key, private_key_pem
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret
from tests.support.real_guest_estate import real_guest_estate
from tests.support.simulator_estate import MACHINE, REPLICA, Estate, SiteProcess, make_estate
from tests.support.simulator_steps import digest, enable, protect
from vmm_simulator.config import SimulatorSettings
from wire_contract.vocabulary import Verb

NONCE = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    """An estate whose machine has real file systems, so that the real guest runs on them."""
    return real_guest_estate(tmp_path, files=8)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while not gone(pid):
            await asyncio.sleep(0.02)


@pytest.mark.needs("mkfs.ext4", "debugfs", "tune2fs")
async def test_killed_site_comes_back_with_what_it_knew_and_waits_for_the_epoch(
    estate: Estate,
) -> None:
    async with estate.process("tokyo") as tokyo_program, estate.process("osaka") as osaka_program:
        tokyo, osaka = await tokyo_program.start(), await osaka_program.start()
        await protect(estate, tokyo, osaka)
        running = await tokyo.machine(MACHINE, nonce=NONCE)
        assert running["guest"]["verified"]
        guest_pid = running["guest"]["pid"]
        effects = (await tokyo.manage("GET", "/effects"))[1]["effects"]

        await tokyo_program.kill()
        await until_gone(guest_pid)
        await osaka_program.kill()
        tokyo, osaka = await tokyo_program.start(), await osaka_program.start()

        after = await tokyo.machine(MACHINE)
        assert after["run_state"] == "Off"
        assert not after["epoch_confirmed"]
        assert after["protected_item"] == MACHINE
        assert (await tokyo.manage("GET", "/effects"))[1]["effects"] == effects
        status, problem = await tokyo.verb(Verb.START, MACHINE)
        assert (status, problem["code"]) == (503, 91005)

        confirmation = {"authoritative": True, "item": MACHINE}
        await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, confirmation)
        again = await tokyo.machine(MACHINE, nonce=NONCE)
        assert again["guest"]["verified"]
        first = again["guest"]["last_record"]
        # Marks survived the kill: what was written before it arrives, and what is written now.
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut_record"] > first)
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30})
        cut = await tokyo.done(Verb.PREPARE_FAILOVER, MACHINE)
        planned = {"planned": True, "expected_cut": cut["last_cut"], "recovery_point": None}
        await osaka.done(Verb.FAIL_OVER, REPLICA, planned, epoch=2)
        images = [Path(disk["path"]) for disk in (await osaka.machine(REPLICA))["disks"]]
        assert digest([each.read_bytes() for each in images]) == digest(
            [each.read_bytes() for each in estate.images]
        )
        await osaka.done(Verb.START, REPLICA, epoch=2)
        copy = await osaka.machine(REPLICA, nonce=NONCE)
        assert copy["guest"]["verified"]
        assert copy["guest"]["file_system_uuid"] == running["guest"]["file_system_uuid"]
        await stop_in_order(tokyo_program, osaka_program)


async def stop_in_order(*programs: SiteProcess) -> None:
    """End the programs with SIGTERM; nothing of them is left."""
    for program in programs:
        assert program.running is not None
        program.running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(program.running.wait(), 20) == 0
        assert not program.ready.exists()


@pytest.mark.needs("mkfs.ext4", "debugfs", "tune2fs")
async def test_unprotected_machine_runs_again_after_a_kill(estate: Estate) -> None:
    async with estate.process("tokyo") as program:
        tokyo = await program.start()
        first = (await tokyo.manage("GET", f"/machines/{MACHINE}"))[1]["guest_pid"]
        await program.kill()
        tokyo = await program.start()
        second = (await tokyo.manage("GET", f"/machines/{MACHINE}"))[1]["guest_pid"]
        assert second not in (None, first)
        assert (await tokyo.machine(MACHINE, nonce=NONCE))["guest"]["verified"]


async def test_kill_during_the_first_copy_is_made_good(tmp_path: Path) -> None:
    estate = make_estate(tmp_path, running=False)
    async with estate.running("osaka") as osaka, estate.process("tokyo") as program:
        tokyo = await program.start()
        await enable(estate, tokyo, osaka)
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
        await program.kill()
        tokyo = await program.start()
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        await osaka.done(Verb.COMPLETE_INITIAL_REPLICATION, REPLICA)
        assert digest(osaka.disks(REPLICA)) == digest(
            [image.read_bytes() for image in estate.images]
        )


async def test_what_an_operator_can_mend_is_one_line(tmp_path: Path) -> None:
    estate = make_estate(tmp_path, running=False)
    async with estate.process("tokyo") as program:
        estate.images[1].unlink()
        with pytest.raises(AssertionError) as failure:
            await program.start()
        (line,) = str(failure.value).strip().splitlines()
        assert line.startswith("error: ")
        assert "create the image or correct its path" in line
        assert program.running is not None
        assert program.running.returncode == 1


SPOILS = {
    "damaged journal": "is damaged or not a database",
    "port in use": "the port is in use",
    "missing certificate": "cannot read the certificate",
    "foreign key": "do not fit",
    "readable key": "others may read it",
    "empty token": "write a bearer token into it",
    "missing disk": "create the image or correct its path",
    "host without address": "has no address for host host1.tokyo.example",
    "damaged hosts file": "line 1: no IP address",
    "no hosts file": "correct hosts_file",
}


@pytest.mark.parametrize("spoil", SPOILS)
async def test_every_fault_of_the_surroundings_is_named(tmp_path: Path, spoil: str) -> None:
    estate = make_estate(tmp_path, running=False)
    changes: dict[str, Any] = {}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        match spoil:
            case "damaged journal":
                data = tmp_path / "tokyo" / "vmm"
                data.mkdir(parents=True)
                (data / "journal.sqlite").write_bytes(b"this is no database" * 400)
            case "port in use":
                listen = estate.configuration("tokyo")["management"]
                changes["management"] = {**listen, "port": taken.getsockname()[1]}
            case "missing certificate":
                (tmp_path / "server.pem").unlink()
            case "foreign key":
                write_secret(tmp_path / "server-key.pem", private_key_pem(new_private_key()))
            case "readable key":
                (tmp_path / "server-key.pem").chmod(0o644)
            case "empty token":
                write_secret(tmp_path / "token", b"\n")
            case "missing disk":
                estate.images[1].unlink()
            case "host without address":
                (tmp_path / "hosts").write_text("# nobody\n")
            case "damaged hosts file":
                (tmp_path / "hosts").write_text("host1.tokyo.example 127.0.0.1\n")
            case _:
                (tmp_path / "hosts").unlink()
        with pytest.raises(ProgramError, match=SPOILS[spoil]):
            async with estate.running("tokyo", **changes):
                pass


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sight", "tokyo", "sight: unknown key; did you mean site?"),
        ("site", "no/slashes", "site: "),
        ("ledger_socket", 5, "ledger_socket: "),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_key(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    estate = make_estate(tmp_path)
    file = tmp_path / "tokyo.yaml"
    file.write_text(json.dumps({**estate.configuration("tokyo"), key: value}))
    with pytest.raises(ProgramError, match=re.escape(said)):
        load_configuration(file, SimulatorSettings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"host": "host9.tokyo.example"}, "host9.tokyo.example is used but not listed"),
        ({"nics": [{"id": "n", "network": "nowhere"}]}, "nowhere is used but not listed"),
        ({"generation": 3}, "inventory.machines.0.generation"),
        ({"disks": []}, "inventory.machines.0.disks"),
    ],
)
def test_an_inventory_that_does_not_hold_together_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    estate = make_estate(tmp_path, **change)
    file = tmp_path / "tokyo.yaml"
    file.write_text(json.dumps(estate.configuration("tokyo")))
    with pytest.raises(ProgramError, match=re.escape(said)):
        load_configuration(file, SimulatorSettings)
