import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from lab.disk_templates import MEBIBYTE
from lab.disks import DiskPlan, prepare_machine_disks
from tests.support.simulator_estate import (
    MACHINE,
    REPLICA,
    Estate,
    digest,
    enable,
    make_estate,
    protect,
)
from wire_contract.vocabulary import Verb

NONCE = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    """An estate whose machine has real file systems, so that the real guest runs on them."""
    estate = make_estate(tmp_path, records_per_second=50)
    sources = tmp_path / "content"
    sources.mkdir()
    for number in range(8):
        (sources / f"file-{number}").write_bytes(os.urandom(20_000))
    plans = [
        DiskPlan(
            name=name,
            sources=(sources,),
            files_bytes_max=MEBIBYTE,
            record_slots=256,
            rewrite_files=1,
            rewrite_file_bytes=65_536,
            free_bytes=MEBIBYTE,
        )
        for name in ("system", "data")
    ]
    prepare_machine_disks(estate.images, plans, os.urandom(16), tmp_path / "cache")
    return estate


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


async def stop_in_order(*programs: object) -> None:
    """End the programs with SIGTERM; nothing of them is left."""
    for program in programs:
        process = getattr(program, "running")  # noqa: B009 -- any of the programs
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert not getattr(program, "ready").exists()  # noqa: B009 -- as above


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


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("damaged journal", "is damaged or not a database"),
        ("port in use", "the port is in use"),
        ("missing certificate", "cannot read the certificate"),
        ("readable key", "others may read it"),
        ("unknown key", "unknown key"),
        ("missing disk", "create the image or correct its path"),
        ("host without address", "has no address for host host1.tokyo.example"),
        ("second simulator", "is in use by another vmm-simulator"),
    ],
)
async def test_what_an_operator_can_mend_is_one_line(tmp_path: Path, spoil: str, said: str) -> None:
    estate = make_estate(tmp_path, running=False)
    async with estate.process("tokyo") as program, estate.process("tokyo") as other:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            configuration = json.loads(program.file.read_text())
            match spoil:
                case "damaged journal":
                    data = tmp_path / "tokyo" / "vmm"
                    data.mkdir(parents=True)
                    (data / "journal.sqlite").write_bytes(b"this is no database" * 400)
                case "port in use":
                    configuration["management"]["port"] = taken.getsockname()[1]
                case "missing certificate":
                    (tmp_path / "server.pem").unlink()
                case "readable key":
                    (tmp_path / "server-key.pem").chmod(0o644)
                case "unknown key":
                    configuration["sight"] = "tokyo"
                case "missing disk":
                    estate.images[1].unlink()
                case "host without address":
                    (tmp_path / "hosts").write_text("# nobody\n")
                case _:
                    await other.start()
            program.file.write_text(json.dumps(configuration))
            with pytest.raises(AssertionError) as failure:
                await program.start()
        lines = str(failure.value).strip().splitlines()
        assert len([line for line in lines if line.startswith("error: ")]) == 1
        assert said in lines[0]
        assert "Traceback" not in str(failure.value)
        assert program.running is not None
        assert program.running.returncode != 0
