"""Thousands of requests at a real hub, made from its own OpenAPI document."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from yarl import URL

from certs.identity import load_private_key
from certs.tls import client_context
from certs.tokens import issue_operator_token
from service_hub.hub_api.described import OPENAPI, OPERATIONS
from service_hub.trust import TOKEN_KEY_FILE
from tests.support.openapi_requests import Asked, requests_of
from tests.support.real_hub import RealHub, real_hub

BATCH = 25
"""Requests that are sent at once."""

ANSWER_SECONDS_MAX = 60
"""A hang is longer than any machine is slow: the longest that a route may wait is 25 s."""

TURNS = 10

ROLES = ("Owner", "Contributor", "Operator", "Reader", "Injector")
FALSE = ("Bearer x.y.z", "Basic YTpi", "Bearer")
TOKENS = (*ROLES, *ROLES, *FALSE, None)


@dataclass
class Asking:
    """A hub that is asked, and what it answered."""

    hub: RealHub
    session: aiohttp.ClientSession
    runner: asyncio.Runner
    headers: dict[str | None, dict[str, str]]
    document: dict[str, Any]
    known: dict[str, list[str]]
    statuses: Counter[int] = field(default_factory=Counter)
    answered: set[tuple[str, str]] = field(default_factory=set)
    """Operations that were answered without an error."""

    def all(self, batch: list[Asked]) -> None:
        """Send a batch; each answer must be one that the document knows."""
        self.runner.run(self._all(batch))

    async def _all(self, batch: list[Asked]) -> None:
        async with asyncio.timeout(ANSWER_SECONDS_MAX), asyncio.TaskGroup() as group:
            for each in batch:
                group.create_task(self._one(each))

    async def _one(self, asked: Asked) -> None:
        data = None
        if asked.method == "POST":
            data = json.dumps(asked.body).encode() if asked.is_json else asked.body
        headers = {**self.headers[asked.token], "Content-Type": asked.content_type}
        url = URL(f"{self.hub.settings.public_url}{asked.target}", encoded=True)
        async with self.session.request(asked.method, url, data=data, headers=headers) as answer:
            body = await answer.read()
        self.statuses[answer.status] += 1
        known = self.document["paths"][asked.template][asked.method.lower()]
        told = (asked, answer.status, body[:500])
        assert str(answer.status) in known["responses"], told
        if answer.status < 400:
            assert not known["security"] or asked.token in ROLES, told
            self.answered.add((asked.method, asked.template))
        _check(asked, answer, body, told)


def _check(asked: Asked, answer: aiohttp.ClientResponse, body: bytes, told: Any) -> None:
    """Hold an answer against the model that the document was made from."""
    if answer.status >= 400:
        assert body.startswith(b"{"), told
        refusal = json.loads(body)["error"]
        assert refusal["code"], told
        assert refusal["message"], told
        return
    described = OPERATIONS[asked.method, asked.template]
    if not described.answers:
        assert not body, told
        return
    if answer.status == described.status:
        model = described.answers[answer.content_type]
    else:
        model = next(
            each for status, each in (described.also or {}).items() if status == answer.status
        )
    lines = body.splitlines() if answer.content_type == "application/jsonl" else [body]
    for line in lines if model is not None else ():
        holds(model, line)


def holds(model: type[BaseModel] | None, body: bytes) -> None:
    """Raise where a body is not what its model says."""
    assert model is not None
    model.model_validate_json(body)


@contextmanager
def asking(folder: Path, free_port: Callable[[], int]) -> Iterator[Asking]:
    """Run a hub with a vault, and be ready to ask it as everybody and as nobody."""
    with real_hub(folder, free_port) as hub, asyncio.Runner() as runner:
        token_key = load_private_key(
            (hub.settings.trust_directory / TOKEN_KEY_FILE).read_bytes(),
            hub.settings.key_file.read_bytes().strip(),
        )
        assert isinstance(token_key, EllipticCurvePrivateKey)
        headers: dict[str | None, dict[str, str]] = {None: {}}
        headers |= {each: {"Authorization": each} for each in FALSE}
        for role in ROLES:
            token = issue_operator_token(
                token_key,
                issuer=hub.settings.public_url,
                principal=role.lower(),
                role=role,
                now=hub.clock.now(),
                lifetime=timedelta(hours=8),
                token_id=role,
            )
            headers[role] = {"Authorization": f"Bearer {token}"}
        session = runner.run(_session(hub))
        try:
            document = runner.run(_get(hub, session, headers["Owner"], OPENAPI))
            vault_id = hub.vault("estate")
            known = {"vault_id": [vault_id, vault_id, vault_id.upper()], "name": ["plan"]}
            yield Asking(hub, session, runner, headers, document, known)
        finally:
            runner.run(_closed(session))


async def _session(hub: RealHub) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=client_context(hub.root_pem), limit=BATCH)
    return aiohttp.ClientSession(connector=connector)


async def _closed(session: aiohttp.ClientSession) -> None:
    """Let go of all connections; a TLS transport lets go of its socket some turns later."""
    assert session.connector is not None
    await session.connector.close(abort_ssl=True)
    await session.close()
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def _get(
    hub: RealHub, session: aiohttp.ClientSession, headers: dict[str, str], path: str
) -> dict[str, Any]:
    async with session.get(f"{hub.settings.public_url}{path}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


def ask(asked: Asking, count: int) -> None:
    """Send so many requests; stop at the first answer that may not be."""
    requests = requests_of(asked.document, asked.known, TOKENS)

    @settings(max_examples=count // BATCH, phases=(Phase.generate,), database=None)
    @given(st.lists(requests, min_size=BATCH, max_size=BATCH))
    def send(batch: list[Asked]) -> None:
        asked.all(batch)

    send()
