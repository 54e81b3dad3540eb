"""All that a running provider sends, byte by byte, held against docs/privacy.md."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from aiohttp import web
from pydantic import BaseModel

from certs.enrolment import decode_request_body
from certs.identity import check_request
from service_shell.secret_files import write_secret
from tests.integration.agent_fakes.estate import Estate
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.fake_mqtt import FakeMqtt
from tests.integration.agent_fakes.fake_vmm import TOKEN, FakeVmm
from tests.integration.agent_fakes.trust import Trust
from tests.integration.agent_fakes.waiting import until
from tests.integration.test_agent_registration import credentials, enrol
from tests.support.privacy_page import listed_fields
from wire_contract import paths
from wire_contract.events import Presence
from wire_contract.reports import (
    Heartbeat,
    HostCertificateRequest,
    Registration,
    ReportBatch,
    SessionRequest,
    TaskOutcome,
)
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic
from wire_contract.vmm_interface import CloudView, HostView, InventoryView, MachineView

SCRIPT_TEXT = "Set-Secret -Value THE-TEXT-OF-A-SCRIPT"
PASSWORD = "THE-PASSWORD-OF-A-RUN-AS-ACCOUNT"  # noqa: S105 -- must never be seen again
BODIES: Mapping[str, type[BaseModel]] = {
    paths.REGISTRATION: Registration,
    paths.SESSION: SessionRequest,
    paths.HEARTBEAT: Heartbeat,
    paths.INVENTORY: InventoryView,
    paths.REPORTS: ReportBatch,
}
WITHOUT_BODY = {paths.TOKEN, paths.EVENTS, paths.PROVIDER_HEALTH}


@dataclass
class Sent:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class CapturingMqtt(FakeMqtt):
    """Keeps every packet of the provider."""

    def __init__(self, hub: FakeHub) -> None:
        super().__init__(hub.provider_id, hub._is_token)
        self.packets: list[mqtt5.Packet] = []

    def _answer(self, packet: mqtt5.Packet, writer: asyncio.StreamWriter, name: str) -> None:
        self.packets.append(packet)
        super()._answer(packet, writer, name)


@dataclass
class CapturingHub(FakeHub):
    """Keeps every request before anything is read out of it."""

    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.mqtt: CapturingMqtt = CapturingMqtt(self)

    @web.middleware
    async def _keep(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.read()
        headers = dict(request.headers)
        self.sent.append(Sent(request.method, request.path, dict(request.query), headers, body))
        answer: web.StreamResponse = await FakeHub._gate(self, request, handler)
        return answer

    _gate = _keep


@contextlib.asynccontextmanager
async def captured_site(folder: Path) -> AsyncIterator[tuple[Estate, CapturingHub]]:
    trust = Trust()
    (folder / "ca.pem").write_text(trust.chain.root_pem)
    write_secret(folder / "vmm.token", TOKEN.encode())
    hub, vmm = CapturingHub(trust), FakeVmm()
    async with vmm.serve(trust.server()), hub.serve():
        site = Estate(folder, trust, hub, vmm)
        vmm.add("machine-1")
        yield site, hub


@pytest.fixture
async def traffic(tmp_path: Path) -> CapturingHub:
    """The whole life of a provider: enrolment, registration, session, tasks, failures, end."""
    async with captured_site(tmp_path) as (site, hub):
        await enrol(site, credentials(site))
        # The text of a script and a password may come towards a site; they never leave it again.
        secrets = {"script": SCRIPT_TEXT, "password": PASSWORD}
        placed = {"cloud_id": "cloud-1", "hyperv_id": "hyperv-9", "name": "web09", "disks": []}
        async with site.agent():
            hub.assign("configure_hosts", "cloud-1", "job-hosts", item=None, epoch=0)
            hub.assign("place_replica", "machine-9", "job-place", arguments={**placed, **secrets})
            hub.assign("shut_down", "machine-1", "job-off", arguments=secrets)
            hub.assign("start", "machine-1", "job-on", arguments=secrets)
            hub.assign("shut_down", "no-such-machine", "job-refused", arguments=secrets)
            hub.assign("no_such_verb", "machine-1", "job-unknown", arguments=secrets)
            last = hub.send("refresh", dict(secrets))
            hub.add("not an event")
            jobs = ("job-hosts", "job-place", "job-off", "job-on", "job-refused")
            await until(
                lambda: all(hub.outcome(job) for job in jobs), f"outcomes of {', '.join(jobs)}"
            )
            await until(lambda: hub.receipt(last), "the last event's receipt")
            await until(hub.unverifiable, "the report of what proves nothing")
            await until(lambda: hub.heartbeats and hub.inventories, "heartbeat and inventory")
        return hub


async def test_every_request_is_in_the_list(traffic: CapturingHub) -> None:
    lists = listed_fields()
    headers = {name.lower() for name in lists["Headers"]}
    seen = {each.path for each in traffic.sent}
    enrolment = {paths.EST_SIMPLEENROLL, paths.HOST_CERTIFICATES}
    assert seen == set(BODIES) | WITHOUT_BODY | enrolment
    for each in traffic.sent:
        assert {name.lower() for name in each.headers} <= headers, each.headers
        assert set(each.query) <= (set(lists["Query"]) if each.path == paths.EVENTS else set())
        if each.path in WITHOUT_BODY:
            assert each.body == b""
        elif each.path == paths.EST_SIMPLEENROLL:
            request = check_request(decode_request_body(each.body))
            assert [part.rfc4514_attribute_name for part in request.subject] == ["CN"]
            assert not list(request.extensions)
        elif each.path == paths.HOST_CERTIFICATES:
            content = json.loads(each.body)
            assert set(content) == {"requests"}
            for wanted in content["requests"]:
                HostCertificateRequest.model_validate(wanted)
        else:
            BODIES[each.path].model_validate_json(each.body)


async def test_outcomes_hold_listed_keys_alone(traffic: CapturingHub) -> None:
    lists = listed_fields()
    outcomes = traffic.told(TaskOutcome)
    assert any(each.observed.get("result") for each in outcomes)
    for each in outcomes:
        assert set(each.observed) <= set(lists["Observed"])
        result = each.observed.get("result", {})
        assert isinstance(result, dict)
        assert set(result) <= set(lists["Result"])
        if "machine" in each.observed:
            MachineView.model_validate_json(json.dumps(each.observed["machine"]))
        if "cloud" in each.observed:
            CloudView.model_validate_json(json.dumps(each.observed["cloud"]))
        hosts = each.observed.get("hosts", [])
        assert isinstance(hosts, list)
        for host in hosts:
            HostView.model_validate_json(json.dumps(host))


async def test_passwords_scripts_and_keys_never_leave(traffic: CapturingHub) -> None:
    everything = b"".join(
        part
        for each in traffic.sent
        for part in (each.body, each.path.encode(), *(v.encode() for v in each.headers.values()))
    )
    assert b"machine-1" in everything
    for secret in (SCRIPT_TEXT, PASSWORD, TOKEN, "PRIVATE KEY"):
        assert secret.encode() not in everything, secret
        for packet in traffic.mqtt.packets:
            assert secret not in repr(packet)


async def test_mqtt_from_a_provider_carries_presence_alone(traffic: CapturingHub) -> None:
    own = traffic.provider_id
    kinds = {
        type(packet).__name__.removesuffix("Packet").upper() for packet in traffic.mqtt.packets
    }
    assert {"CONNECT", "SUBSCRIBE", "PUBLISH", "PUBACK"} <= kinds
    assert kinds <= set(listed_fields()["MQTT"])
    for packet in traffic.mqtt.packets:
        match packet:
            case mqtt5.ConnectPacket(will=will):
                assert packet.client_id == packet.username == own
                assert will is not None
                assert will.topic == presence_topic(own)
                Presence.model_validate_json(will.payload or b"")
                assert not packet.user_properties
            case mqtt5.PublishPacket():
                assert packet.topic == presence_topic(own)
                Presence.model_validate_json(packet.payload)
                assert not packet.user_properties
            case mqtt5.SubscribePacket():
                patterns = {each.pattern for each in packet.topic_filters}
                assert patterns <= {event_topic(own), HINT_TOPIC}
            case _:
                assert not isinstance(packet, mqtt5.PublishPacket)
