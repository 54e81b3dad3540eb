"""A site whose journal is on a full or read-only disk says "not now" and loses no effect."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service_shell.errors import ProgramError
from tests.support.simulator_estate import MACHINE, Estate, make_estate
from tests.support.small_disk import SmallDisk, small_disk
from vmm_simulator.problems import Code
from wire_contract.vocabulary import Verb

DISK_KIBIBYTES = 2048
VERBS_MAX = 200


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_KIBIBYTES) as given:
        yield given


@pytest.fixture
def made(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def test_a_verb_that_cannot_be_noted_is_not_begun_and_done_once_there_is_room(
    made: Estate, disk: SmallDisk
) -> None:
    data = str(disk.folder / "vmm")
    async with made.running("tokyo", data_directory=data) as site:
        disk.fill()
        command = site.new_id()
        status, answer = await site.verb(Verb.SHUT_DOWN, MACHINE, {"seconds": 5}, id=command)
        assert (status, answer["code"]) == (503, Code.NOT_AVAILABLE)
        assert "cannot write its journal" in answer["message"]
        assert "free space" in answer["recommended_action"]
        assert (await site.machine(MACHINE))["run_state"] == "Running"
        disk.make_room()
        await site.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 5}, id=command)
        effects = [each for each in await site.site.journal.effects() if each.target == MACHINE]
        assert [(each.command_id, each.outcome) for each in effects] == [(command, "succeeded")]
    async with made.running("tokyo", data_directory=data) as site:
        status, _ = await site.verb(Verb.SHUT_DOWN, MACHINE, {"seconds": 5}, id=command)
        assert status == 200
        assert len(await site.site.journal.effects()) == 1


@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_such_a_disk_is_named_at_the_start(made: Estate, disk: SmallDisk, how: str) -> None:
    data = str(disk.folder / "vmm")
    async with made.running("tokyo", data_directory=data) as site:
        before = await site.machine(MACHINE)
    disk.fill() if how == "full" else disk.forbid_writing()
    with pytest.raises(ProgramError, match=r"cannot write|No space left|writable"):
        async with made.running("tokyo", data_directory=data):
            pass
    disk.make_room() if how == "full" else disk.allow_writing()
    async with made.running("tokyo", data_directory=data) as site:
        assert (await site.machine(MACHINE))["machine_id"] == before["machine_id"]
