"""A guest that ended unnoticed turns the story red before anything is failed over."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.story_protection import need_writing
from service_shell.errors import ProgramError

BOUND_SECONDS = 30.0


def line(number: int) -> bytes:
    entry = {
        "machine_id": "m",
        "epoch": 0,
        "number": number,
        "hash": "0" * 64,
        "time_microseconds": 1_790_000_000_000_000 + number,
    }
    return json.dumps(entry).encode() + b"\n"


def situation(folder: Path) -> Any:
    layout = SimpleNamespace(ledger=folder)
    return SimpleNamespace(builder=SimpleNamespace(layout=layout), machine_id=lambda _name: "m")


async def test_a_silent_guest_is_named(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(line(1))
    with pytest.raises(ProgramError, match="the guest of web01 to write on"):
        await need_writing(situation(tmp_path), "web01", 0.2)


async def test_one_more_record_is_enough(tmp_path: Path) -> None:
    ledger = tmp_path / "records.jsonl"
    ledger.write_bytes(line(1))
    number = 1
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        waiting = group.create_task(need_writing(situation(tmp_path), "web01", BOUND_SECONDS))
        while not waiting.done():
            number += 1
            ledger.write_bytes(ledger.read_bytes() + line(number))
            await asyncio.sleep(0.05)
