"""The lab's relay between a site and its hub, asked as providers and operators ask it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.addresses import free_ports
from lab.estate_record import EstateRecord, save_record
from lab.layout import Layout
from lab.line_control import ask_relay, change_line
from lab.line_orders import Carried, LineDoes, LineOrder
from lab.relay import Relay, RelaySettings, kept_cuts
from service_shell.errors import ProgramError

HOST = "127.0.0.1"
SECONDS_MAX = 20
CUT = LineOrder(site="tokyo", does=LineDoes.CUT)
HEAL = LineOrder(site="tokyo", does=LineDoes.HEAL)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer whatever comes with itself, as a hub would that says nothing of its own."""
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()


def settings_of(layout: Layout, https: int, mqtt: int, sites: dict[str, int]) -> RelaySettings:
    return RelaySettings(
        host=HOST,
        sites=sites,
        hub={Carried.HTTPS: https, Carried.MQTT: mqtt},
        control_socket=layout.relay / "control",
        cuts_file=layout.relay / "cuts.json",
        ready_file=layout.relay / "ready.json",
    )


@asynccontextmanager
async def served(settings: RelaySettings) -> AsyncIterator[None]:
    """Serve with what was cut before, and two ports of a hub behind it."""
    stop = asyncio.Event()
    hubs = [await asyncio.start_server(echo, HOST, port) for port in settings.hub.values()]
    async with asyncio.TaskGroup() as group:
        group.create_task(Relay(settings, kept_cuts(settings.cuts_file)).serve(stop))
        async with asyncio.timeout(SECONDS_MAX):
            while not settings.ready_file.exists():
                await asyncio.sleep(0.01)
        try:
            yield
        finally:
            stop.set()
            for hub in hubs:
                hub.close()


async def way(relay: int, port: int) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a way to a port of the hub; the first line of the answer."""
    reader, writer = await asyncio.open_connection(HOST, relay)
    writer.write(f"CONNECT {HOST}:{port} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
    async with asyncio.timeout(SECONDS_MAX):
        try:
            line = await reader.readline()
            if line:
                await reader.readline()
        except ConnectionError:
            line = b""
    if b" 200 " not in line:
        writer.close()
    return line, reader, writer


async def ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(SECONDS_MAX):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


async def test_a_line_is_cut_and_healed_part_by_part_and_stays_so(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    https, mqtt, tokyo, osaka = free_ports(HOST, 4)
    settings = settings_of(layout, https, mqtt, {"tokyo": tokyo, "osaka": osaka})
    async with served(settings):
        line, reader, writer = await way(tokyo, https)
        assert b" 200 " in line
        writer.write(b"hello")
        async with asyncio.timeout(SECONDS_MAX):
            assert await reader.readexactly(5) == b"hello"
        only_mqtt = CUT.model_copy(update={"carries": frozenset({Carried.MQTT})})
        assert (await ask_relay(layout, only_mqtt)).cut == {"tokyo": {Carried.MQTT}}
        assert (await way(tokyo, mqtt))[0] == b""
        writer.write(b"still")
        async with asyncio.timeout(SECONDS_MAX):
            assert await reader.readexactly(5) == b"still"
        # All of it: what is open breaks off too, the other site's does not.
        _, others, answering = await way(osaka, https)
        await ask_relay(layout, CUT)
        assert await ended(reader)
        answering.write(b"fine")
        async with asyncio.timeout(SECONDS_MAX):
            assert await others.readexactly(4) == b"fine"
        for each in (writer, answering):
            each.close()
    # Killed and started again it goes on as it was.
    assert kept_cuts(settings.cuts_file) == {"tokyo": frozenset(Carried)}
    async with served(settings):
        assert (await way(tokyo, https))[0] == b""
        assert (await ask_relay(layout, HEAL)).cut == {}
        line, _, writer = await way(tokyo, https)
        assert b" 200 " in line
        writer.close()


async def test_it_leads_to_the_hub_alone_and_says_what_it_does_not_do(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    https, mqtt, tokyo, other = free_ports(HOST, 4)
    settings = settings_of(layout, https, mqtt, {"tokyo": tokyo})
    async with served(settings):
        assert b" 403 " in (await way(tokyo, other))[0]
        reader, writer = await asyncio.open_connection(HOST, tokyo)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        kyoto = CUT.model_copy(update={"site": "kyoto"})
        assert "no site kyoto" in str((await ask_relay(layout, kyoto)).refused)
        save_record(layout, EstateRecord(estate_file="e", kind="up", prefix="127.64.0"))
        with pytest.raises(ProgramError, match="refused: there is no site kyoto"):
            await change_line(layout, kyoto)
        # Control that is none, and a request without an end, are let go of.
        _, noise = await asyncio.open_unix_connection(str(settings.control_socket))
        noise.write(b"x" * 100_000)
        noise.close()
        assert (await ask_relay(layout, CUT)).cut == {"tokyo": frozenset(Carried)}
    with pytest.raises(ProgramError, match="lines: relayed"):
        await ask_relay(layout, CUT)


def test_a_damaged_file_of_cuts_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "cuts.json"
    path.write_text(json.dumps({"cut": {"tokyo": ["smoke"]}}))
    with pytest.raises(ProgramError, match="remove it"):
        kept_cuts(path)
