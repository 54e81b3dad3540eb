"""A real hub as operators of other roles see it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from certs.identity import load_private_key
from certs.tokens import issue_operator_token
from service_hub.trust import TOKEN_KEY_FILE
from tests.support.real_hub import RealHub


def as_role(hub: RealHub, role: str, principal: str = "olga") -> RealHub:
    """Return the hub as somebody else sees it."""
    settings = hub.settings
    key: Any = load_private_key(
        (settings.trust_directory / TOKEN_KEY_FILE).read_bytes(),
        settings.key_file.read_bytes().strip(),
    )
    token = issue_operator_token(
        key,
        issuer=settings.public_url,
        principal=principal,
        role=role,
        now=hub.clock.now(),
        lifetime=timedelta(hours=1),
        token_id=f"{principal}-{role}",
    )
    return replace(hub, token=token)
