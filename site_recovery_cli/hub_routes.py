"""The hub's own routes (/hub/v1/...), which the ARM surface and so the SDK don't have."""

import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp

from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, answer_error, unreachable
from wire_contract.operator_signature import HEADER, Order, SignedOperation
from wire_contract.vocabulary import Direction

ANSWER_BYTES_MAX: Final = 16_777_216
VAULTS: Final = "/hub/v1/vaults"
REGISTRATION_KEYS: Final = "registration-keys"
SERVERS: Final = "servers"
APPROVALS: Final = "approvals"
ALERTS: Final = "alerts"
WAITING: Final = "waiting"
AUTHORITY_QUESTIONS: Final = "authority-questions"
CHANGES: Final = "changes"
PREVIEW: Final = "preview"
INJECTIONS: Final = "injections"
PLANS: Final = "plans"
HUB_AUDIT: Final = "/hub/v1/audit"
ACCOUNTS: Final = "/hub/v1/service-accounts"
EXPORT_SILENCE_SECONDS_MAX: Final = 60.0
"""Longest that an export may say nothing."""


class HubRoutes:
    """Requests to the hub's own routes; every refusal is a CommandError."""

    def __init__(self, hub: str, session: aiohttp.ClientSession) -> None:
        self._hub = hub
        self._session = session

    async def vaults(self) -> list[dict[str, Any]]:
        """Return the ids of all vaults; also shows that address, trust and token are right."""
        return _rows(await self._json("GET", VAULTS, "list vaults"), "vaults")

    async def health(self) -> tuple[Mapping[str, Any], str | None]:
        """Return what the hub says of itself to anybody, and its time."""
        what = "hub"
        try:
            async with self._session.get(f"{self._hub}/health") as response:
                body = await _bounded(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(what, self._hub, error) from error
        if response.status != HTTPStatus.OK or body is None:
            raise self._not_a_hub(what)
        return self._object(body, what), response.headers.get("Date")

    async def release(self) -> str | None:
        """Return the hub's version."""
        told = await self._json("GET", "/hub/v1/openapi.json", "version")
        info = told.get("info")
        return str(info["version"]) if isinstance(info, dict) and "version" in info else None

    async def vault_id(self, subscription_id: str, resource_group: str, name: str) -> str:
        """Return the hub's own id of a vault, which its routes are addressed with."""
        wanted = (subscription_id.lower(), resource_group.lower(), name.lower())
        for vault in await self.vaults():
            place = (vault["subscription_id"], vault["resource_group"], vault["name"])
            if tuple(part.lower() for part in place) == wanted:
                return str(vault["vault_id"])
        raise CommandError(
            f"there is no vault {name} in resource group {resource_group};"
            " see: site-recovery vault list",
            ExitCode.NOT_FOUND,
        )

    async def make_registration_key(self, vault_id: str) -> bytes:
        """Make a registration key and return its vault credentials file."""
        return await self._send("POST", _place(vault_id, REGISTRATION_KEYS), "registration key")

    async def registration_keys(self, vault_id: str) -> list[dict[str, Any]]:
        """Return the registration keys of a vault, without anything secret."""
        answer = await self._json("GET", _place(vault_id, REGISTRATION_KEYS), "registration keys")
        return _rows(answer, "keys")

    async def revoke_registration_key(self, vault_id: str, key_id: str) -> None:
        """Revoke a key: nobody can register with it any more; registered servers stay."""
        path = _place(vault_id, REGISTRATION_KEYS, key_id, "revoke")
        await self._send("POST", path, f"revoke key {key_id}")

    async def require_signatures(self, vault_id: str, *, required: bool) -> None:
        """Have a vault's destructive operations want an operator's signature, or no more."""
        change = "require" if required else "release"
        path = _place(vault_id, "operator-signature", change)
        await self._send("POST", path, f"{change} operator signatures")

    async def approvals(self, vault_id: str) -> list[dict[str, Any]]:
        """Return the known servers that came back with a new key, decided ones too."""
        answer = await self._json("GET", _place(vault_id, APPROVALS), "approvals")
        return _rows(answer, "approvals")

    async def decide(self, vault_id: str, approval_id: str, decision: str) -> None:
        """Approve or reject a waiting server."""
        path = _place(vault_id, APPROVALS, approval_id, decision)
        await self._send("POST", path, f"{decision} {approval_id}")

    async def alerts(self, vault_id: str) -> list[dict[str, Any]]:
        """Return what was raised about the identities of a vault's servers, oldest first."""
        answer = await self._json("GET", _place(vault_id, ALERTS), "alerts")
        return _rows(answer, "alerts")

    async def servers(self, vault_id: str) -> list[dict[str, Any]]:
        """Return what the hub knows of a vault's servers beyond the ARM surface."""
        return _rows(await self._json("GET", _place(vault_id, SERVERS), "servers"), "servers")

    async def waiting(self, vault_id: str) -> list[dict[str, Any]]:
        """Return everything of a vault that is not final, what has waited longest first."""
        return _rows(await self._json("GET", _place(vault_id, WAITING), "waiting"), "waiting")

    async def authority_questions(self, vault_id: str) -> list[dict[str, Any]]:
        """Return the machines of which a restored hub cannot tell which copy may run."""
        answer = await self._json("GET", _place(vault_id, AUTHORITY_QUESTIONS), "authority")
        return _rows(answer, "questions")

    async def decide_authority(self, vault_id: str, item_id: str, side: str) -> Mapping[str, Any]:
        """Make the copy at one end, Primary or Recovery, the authoritative one."""
        path = _place(vault_id, AUTHORITY_QUESTIONS, item_id, "decide")
        what = f"decide for {side}"
        return self._object(await self._send("POST", path, what, {"authority": side}), what)

    async def override_fence(
        self, vault_id: str, item_id: str, reason: str, *, lost: bool, signature: str | None
    ) -> Mapping[str, Any]:
        """Let the former source of a failover start again; the answer names the job."""
        path, what = _place(vault_id, "items", item_id, "override-fence"), "override"
        body = {"reason": reason, "otherCopyLost": lost}
        headers = {} if signature is None else {HEADER: signature}
        return self._object(await self._send("POST", path, what, body, headers), what)

    async def revoke_server(self, vault_id: str, provider_id: str) -> None:
        """Revoke a server's certificates: its connections end at once."""
        path = _place(vault_id, SERVERS, provider_id, "revoke")
        await self._send("POST", path, f"revoke server {provider_id}")

    async def changes(
        self, vault_id: str, since: int, limit: int, wait_seconds: int
    ) -> Mapping[str, Any]:
        """Return what changed above a number; waits for it that long at the hub."""
        query = urlencode({"since": since, "limit": limit, "wait": wait_seconds})
        answer = await self._json("GET", f"{_place(vault_id, CHANGES)}?{query}", "changes")
        _rows(answer, "changes")
        return answer

    async def seen(self, vault_id: str, what: str) -> list[dict[str, Any]]:
        """Return the newest views of what is named: `items`, `machines` or `servers`."""
        return _rows(await self._json("GET", _place(vault_id, what), what), what)

    async def progress(self, vault_id: str, job: str) -> Mapping[str, Any]:
        """Return how long a job's tasks usually take, and how long they have run."""
        answer = await self._json("GET", _place(vault_id, "jobs", job, "progress"), "progress")
        _rows(answer, "tasks")
        return answer

    async def order_of_job(self, vault_id: str, job: str) -> Order | None:
        """Return what an operator signs to restart or cancel a job; None: it needs no signature."""
        named = (await self.progress(vault_id, job)).get("operator_order")
        if named is None:
            return None
        try:
            direction = named["direction"]
            return Order(
                SignedOperation(named["operation"]),
                str(named["item"]),
                None if direction is None else Direction(direction),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CommandError(
                "the hub's answer names no order that an operator could sign;"
                " is the hub of another version?",
                ExitCode.NOT_OFFERED,
            ) from error

    async def preview(self, vault_id: str, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what an operation would do; nothing is changed."""
        what = "preview"
        return self._object(
            await self._send("POST", _place(vault_id, PREVIEW), what, question), what
        )

    async def inject(
        self, vault_id: str, event: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Inject an event, or with `dryRun` return what it would do; `headers`: a signature."""
        what = f"inject {event['kind']}"
        return self._object(
            await self._send("POST", _place(vault_id, INJECTIONS), what, event, headers), what
        )

    async def injections(self, vault_id: str) -> list[dict[str, Any]]:
        """Return what was injected or will be, the newest first."""
        answer = await self._json("GET", _place(vault_id, INJECTIONS), INJECTIONS)
        return _rows(answer, INJECTIONS)

    async def cancel_injection(self, vault_id: str, injection: str) -> Mapping[str, Any]:
        """Have nothing more come of one."""
        path, what = _place(vault_id, INJECTIONS, injection, "cancel"), f"cancel {injection}"
        return self._object(await self._send("POST", path, what), what)

    async def accounts(self) -> list[dict[str, Any]]:
        """Return all service accounts, without anything secret."""
        return _rows(await self._json("GET", ACCOUNTS, "list service accounts"), "accounts")

    async def make_account(
        self, name: str, grants: Sequence[Mapping[str, str]], days: int
    ) -> Mapping[str, Any]:
        """Make a service account; the answer alone has its secret."""
        what, body = f"create account {name}", {"name": name, "grants": list(grants), "days": days}
        return self._object(await self._send("POST", ACCOUNTS, what, body), what)

    async def rotate_account(
        self, client_id: str, days: int, overlap_hours: int
    ) -> Mapping[str, Any]:
        """Give a service account a new secret, which the answer alone has."""
        path, what = f"{ACCOUNTS}/{quote(client_id, safe='')}/rotate", f"rotate {client_id}"
        body = {"days": days, "overlap_hours": overlap_hours}
        return self._object(await self._send("POST", path, what, body), what)

    async def remove_account(self, client_id: str) -> None:
        """Remove a service account: its tokens are no good from then on."""
        path = f"{ACCOUNTS}/{quote(client_id, safe='')}"
        await self._send("DELETE", path, f"revoke account {client_id}")

    async def revoke_token(self, token_id: str) -> None:
        """Have one token be no good any more, by its claim `jti`."""
        path = f"/hub/v1/tokens/{quote(token_id, safe='')}/revoke"
        await self._send("POST", path, f"revoke token {token_id}")

    async def export_plan(self, vault_id: str, plan: str, form: str) -> bytes:
        """Return a recovery plan as a document, json or yaml."""
        path = f"{_place(vault_id, PLANS, plan, 'export')}?{urlencode({'format': form})}"
        return await self._send("GET", path, f"export plan {plan}")

    async def import_plan(
        self, vault_id: str, plan: str, document: bytes, content_type: str
    ) -> Mapping[str, Any]:
        """Save the plan of a document under a name; the answer names its job."""
        path, what = _place(vault_id, PLANS, plan, "import"), f"import plan {plan}"
        body = await self._send("POST", path, what, (document, content_type))
        return self._object(body, what)

    async def export(self, vault_id: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield an export of jobs as it comes, however long it is."""
        path = f"{_place(vault_id, 'jobs', 'export')}?{urlencode(query)}"
        async for chunk in self._stream(path, "export jobs"):
            yield chunk

    async def audit(self, vault_id: str | None, after: str | None) -> AsyncIterator[bytes]:
        """Yield the audit log of a vault, or (None) of the hub itself, as it comes."""
        place = HUB_AUDIT if vault_id is None else _place(vault_id, "audit")
        query = "" if after is None else f"?{urlencode({'after': after})}"
        async for chunk in self._stream(f"{place}{query}", "export audit log"):
            yield chunk

    async def _stream(self, path: str, what: str) -> AsyncIterator[bytes]:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=EXPORT_SILENCE_SECONDS_MAX)
        try:
            async with self._session.get(f"{self._hub}{path}", timeout=timeout) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise self._refusal(what, response.status, await _bounded(response) or b"")
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(what, self._hub, error) from error

    async def _json(self, method: str, path: str, what: str) -> Mapping[str, Any]:
        return self._object(await self._send(method, path, what), what)

    def _object(self, body: bytes, what: str) -> Mapping[str, Any]:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._not_a_hub(what) from error
        if not isinstance(answer, dict):
            raise self._not_a_hub(what)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        what: str,
        content: Mapping[str, Any] | tuple[bytes, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        sent: dict[str, Any] = {}
        if isinstance(content, tuple):
            data, content_type = content
            sent = {"data": io.BytesIO(data), "headers": {"Content-Type": content_type}}
        elif method == "POST":
            sent = {"json": content or {}, "headers": dict(headers or {})}
        try:
            async with self._session.request(method, f"{self._hub}{path}", **sent) as response:
                body = await _bounded(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(what, self._hub, error) from error
        if body is None:
            raise self._not_a_hub(what)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise self._refusal(what, response.status, body)
        return body

    def _refusal(self, what: str, status: int, body: bytes) -> CommandError:
        code, message = _error_in(body)
        # The catch-all of the ARM surface answers for a path that no route has.
        if status == HTTPStatus.METHOD_NOT_ALLOWED or (
            status == HTTPStatus.NOT_FOUND and code in {None, "InvalidResourceType"}
        ):
            return CommandError(
                f"{what}: the hub at {self._hub} has no such route; upgrade the hub,"
                " or check that the address is a hub's",
                ExitCode.NOT_OFFERED,
            )
        return answer_error(what, status, message)

    def _not_a_hub(self, what: str) -> CommandError:
        return CommandError(
            f"{what}: {self._hub} answered with something else than a hub would;"
            " check the address with which you logged in",
            ExitCode.NOT_REACHABLE,
        )


def _place(vault_id: str, *parts: str) -> str:
    return "/".join((VAULTS, *(quote(part, safe="") for part in (vault_id, *parts))))


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > ANSWER_BYTES_MAX:
            return None
    return b"".join(chunks)


def _error_in(body: bytes) -> tuple[str | None, str]:
    try:
        error = json.loads(body)["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, "the hub gave no reason"


def _rows(answer: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    rows = answer.get(field)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CommandError(
            f"the hub's answer has no list of {field}; is the hub of another version?",
            ExitCode.NOT_OFFERED,
        )
    return rows
