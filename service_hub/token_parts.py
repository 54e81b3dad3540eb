"""Part of the composition root: who checks operators' tokens, the hub's and another issuer's."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from certs.tls import TlsMaterialError, client_context
from service_hub.config import HubSettings
from service_hub.hub_api.issuer_keys import IssuerKeys
from service_hub.hub_api.issuer_tokens import IssuerTokens, TokensOfBoth
from service_hub.hub_api.operator_tokens import SignedOperatorTokens
from service_hub.ports.stores import Reader
from service_hub.ports.use_cases import OperatorTokens
from service_hub.trust import HubTrust
from service_shell.clock import Clock
from service_shell.errors import ProgramError

ROOTS_BYTES_MAX: Final = 1_048_576


@asynccontextmanager
async def token_check(
    settings: HubSettings, trust: HubTrust, clock: Clock, reader: Reader
) -> AsyncIterator[OperatorTokens]:
    """Give what checks operators' tokens; ProgramError where the issuer's roots cannot be read."""
    key = trust.token_key.public_key()
    own = SignedOperatorTokens(key, issuer=settings.public_url, reader=reader)
    oidc = settings.oidc
    if oidc is None:
        yield own
        return
    keys = IssuerKeys(
        oidc.issuer,
        _trusting(oidc.ca_file),
        clock,
        every=timedelta(seconds=oidc.keys_seconds),
        kept=timedelta(hours=oidc.keys_kept_hours),
        pause=timedelta(seconds=oidc.keys_pause_seconds),
    )
    external = IssuerTokens(
        issuer=oidc.issuer,
        audience=oidc.audience,
        algorithms=frozenset(oidc.algorithms),
        tolerance_seconds=oidc.clock_tolerance_seconds,
        rules=oidc.rules,
        keys=keys,
        reader=reader,
    )
    async with keys.running():
        yield TokensOfBoth(own, external)


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return ssl.create_default_context()
    try:
        with ca_file.open("rb") as stream:
            content = stream.read(ROOTS_BYTES_MAX + 1)
        if len(content) > ROOTS_BYTES_MAX:
            raise ProgramError(f"{ca_file} is larger than {ROOTS_BYTES_MAX} bytes; name its roots")
        return client_context(content.decode("ascii"))
    except OSError as error:
        raise ProgramError(
            f"cannot read oidc.ca_file {ca_file}: {error.strerror}; name the issuer's roots (PEM)"
        ) from error
    except (ValueError, TlsMaterialError) as error:
        raise ProgramError(
            f"oidc.ca_file {ca_file} holds no certificate ({error}); name the issuer's roots (PEM)"
        ) from error
