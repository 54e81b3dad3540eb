"""The operator's signature on requests: a policy for the SDK's pipeline, and the key it signs with.

    policy = OperatorSignaturePolicy(read_key(Path("prod.key")), SystemClock())
    SiteRecoveryManagementClient(credential, subscription, ..., per_call_policies=[policy])

signs each request that stops, fences, moves or discards a copy, for that operation on that item.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy

from certs import vault_credentials
from certs.channel_integrity import KeyUnfitError, checked_key, new_key, seal
from certs.vault_credentials import CredentialsDamagedError
from service_shell.clock import Clock
from service_shell.secret_files import read_secret, write_secret
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from wire_contract.operator_signature import (
    HEADER,
    REQUESTS,
    UNDIRECTED,
    Order,
    SignedOperation,
    signed_header,
    unsigned_text,
)
from wire_contract.scripts import ScriptOrder, script_digest, signature_key
from wire_contract.vocabulary import Direction

SIGNATURE_LIFE: Final = timedelta(hours=6)
"""As the source of the original's client has it (behaviour, section 3)."""

CLOCK_DIFFERENCE: Final = timedelta(minutes=5)
"""How far the provider's clock may be behind: a signature is valid from before its making."""

KEY_FILE_BYTES_MAX: Final = 4096

SIGNATURES: Final = "operatorSignatures"
"""The property of a plan's request that has them."""

_ITEMS: Final = "replicationprotecteditems"


class OperatorSignaturePolicy(SansIOHTTPPolicy[Any, Any]):
    """Signs destructive requests of either SDK client, synchronous or not; leaves others alone."""

    def __init__(self, key: str, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def on_request(self, request: PipelineRequest[Any]) -> None:
        """Add the header, once for all repetitions of the request."""
        http = request.http_request
        order = order_of(http.method, http.url, getattr(http, "content", None))
        if order is not None:
            http.headers[HEADER] = self.header(order)

    def header(self, order: Order) -> str:
        """Return the signed header for an order, valid for six hours from now."""
        now = self._clock.now()
        unsigned = unsigned_text(
            order, self._clock.new_id(), now - CLOCK_DIFFERENCE, now + SIGNATURE_LIFE
        )
        return signed_header(unsigned, seal(self._key, unsigned.encode("ascii")))

    def of_each(
        self, operation: SignedOperation, items: Sequence[str], direction: Direction | None
    ) -> dict[str, str]:
        """Return a signed header for each of these machines, by item."""
        way = None if operation in UNDIRECTED else direction
        return {item: self.header(Order(operation, item, way)) for item in items}

    def of_scripts(
        self, operation: SignedOperation, scripts: Sequence[ScriptOrder]
    ) -> dict[str, str]:
        """Return a signed header for each of these scripts, by its name in a plan's request."""
        signed = {}
        for script in scripts:
            digest, context = script_digest(script), script.context
            way = None if operation in UNDIRECTED else Direction(context.direction)
            order = Order(operation, context.plan_id, way, digest)
            signed[signature_key(digest)] = self.header(order)
        return signed

    def for_plan(
        self,
        operation: SignedOperation,
        items: Sequence[str],
        away: Direction | None,
        scripts: Sequence[ScriptOrder] = (),
    ) -> Callable[[PipelineRequest[Any]], None]:
        """Return a hook that puts a signature for each machine and script into a plan's request.

        `away` is the direction of a request that names none though it has one: away from where the
        machines run.
        """
        signed: dict[str, str] = {}

        def sign(request: PipelineRequest[Any]) -> None:
            http = request.http_request
            if http.method != "POST":
                return
            body = _object(getattr(http, "content", None))
            properties = {**(body.get("properties") or {})}
            named = properties.get("failoverDirection")
            direction = away if named is None else Direction(str(named))
            if not signed:
                # Once for all repetitions: a request that is sent again is the same one.
                signed.update(self.of_each(operation, items, direction))
                signed.update(self.of_scripts(operation, scripts))
            properties[SIGNATURES] = signed
            http.set_json_body({**body, "properties": properties})

        return sign


def _object(content: object) -> dict[str, Any]:
    """Return the JSON object of a body; an empty one where there is none."""
    if not isinstance(content, str | bytes) or not content:
        return {}
    found = json.loads(content)
    return found if isinstance(found, dict) else {}


def order_of(method: str, url: str, content: object) -> Order | None:
    """Return what a request orders, null where it needs no signature."""
    parts = [unquote(part) for part in urlsplit(url).path.split("/")]
    match method, parts:
        case "PUT", [*_, kind, item] if kind.lower() == _ITEMS:
            return Order(SignedOperation.ENABLE, item)
        case "DELETE", [*_, kind, item] if kind.lower() == _ITEMS:
            return Order(SignedOperation.PURGE, item)
        case "POST", [*_, kind, item, action] if kind.lower() == _ITEMS:
            operation = REQUESTS.get(action.lower())
            return None if operation is None else Order(operation, item, _direction(content))
    return None


def _direction(content: object) -> Direction | None:
    if not isinstance(content, str | bytes) or not content:
        return None
    try:
        return Direction(json.loads(content)["properties"]["failoverDirection"])
    except (ValueError, KeyError, TypeError):
        # The hub names what is wrong with such a body.
        return None


def read_key(path: Path) -> str:
    """Return the ChannelIntegrityKey in a file of mode 0600; CommandError when it holds none."""
    try:
        return checked_key(read_secret(path, KEY_FILE_BYTES_MAX).decode(errors="replace"))
    except KeyUnfitError as error:
        raise CommandError(
            f"{path} holds no channel integrity key: {error}; make one:"
            " site-recovery vault registration-key --channel-integrity-key-file FILE",
            ExitCode.USAGE,
        ) from error


def read_or_make_key(path: Path) -> str:
    """Return the key in a file, which is made (0600) where there is none."""
    if not path.exists():
        write_secret(path, f"{new_key()}\n".encode())
    return read_key(path)


def with_key(credentials_file: bytes, key: str) -> bytes:
    """Return a vault credentials file with the key in it; the hub that made it never sees it."""
    try:
        credentials = vault_credentials.parse(credentials_file)
    except CredentialsDamagedError as error:
        raise CommandError(
            f"the hub's answer is no vault credentials file: {error}; is it of another version?",
            ExitCode.NOT_OFFERED,
        ) from error
    return vault_credentials.render(replace(credentials, channel_integrity_key=key))
