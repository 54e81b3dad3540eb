"""The part of the hub's configuration about an external OpenID Connect issuer."""

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from certs.issuer_tokens import ALGORITHMS
from service_hub.domain.access import Role, role_named
from service_hub.domain.issuer_claims import ClaimGrant, ClaimRules
from service_shell.configuration import Settings

GRANTS_MAX: Final = 200
URL_CHARACTERS_MAX: Final = 1_024


def _role(value: Any) -> Any:
    role = role_named(value) if isinstance(value, str) else None
    if role is None:
        raise ValueError(f"must be a role: {', '.join(Role)}, or a short name of one")
    return role


def _path(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


ClaimName = Annotated[str, Field(min_length=1, max_length=256)]
ClaimPath = Annotated[
    tuple[ClaimName, ...], BeforeValidator(_path), Field(min_length=1, max_length=8)
]


class OidcGrantSettings(Settings):
    """A role for all whose token has a value."""

    value: str = Field(min_length=1, max_length=256)
    role: Annotated[Role, BeforeValidator(_role)]
    vault_id: str | None = Field(default=None, min_length=1, max_length=64)


class OidcSettings(Settings):
    """Who issues tokens beside the hub itself, and what they are worth here."""

    issuer: str = Field(max_length=URL_CHARACTERS_MAX)
    """As the tokens' claim `iss` has it, to the letter."""

    audience: str = Field(min_length=1, max_length=256)
    ca_file: Path | None = None
    """What the issuer's certificate is verified with; by default the machine's roots."""

    principal_claim: ClaimPath = ("sub",)
    roles_claim: ClaimPath = ("roles",)
    prefix: str = Field(default="oidc:", min_length=1, max_length=32, pattern=r"^[!-~]+$")
    roles: tuple[OidcGrantSettings, ...] = Field(min_length=1, max_length=GRANTS_MAX)
    algorithms: tuple[str, ...] = Field(default=("RS256", "ES256"), min_length=1, max_length=7)
    clock_tolerance_seconds: int = Field(default=60, ge=0, le=300)
    keys_seconds: int = Field(default=900, ge=60, le=86_400)
    """How often the issuer's keys are read anew."""

    keys_pause_seconds: int = Field(default=10, ge=1, le=600)
    """Least time between two readings, whatever tokens name."""

    keys_kept_hours: int = Field(default=24, ge=1, le=168)
    """How long keys stay good that could not be read anew: the issuer is away."""

    @field_validator("issuer")
    @classmethod
    def _is_https(cls, value: str) -> str:
        return secure_url(value)

    @field_validator("algorithms")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - ALGORITHMS:
            raise ValueError(
                f"{', '.join(sorted(unknown))}: must be of {', '.join(sorted(ALGORITHMS))}"
            )
        return value

    @property
    def rules(self) -> ClaimRules:
        """How its claims are read."""
        return ClaimRules(
            principal=self.principal_claim,
            roles=self.roles_claim,
            prefix=self.prefix,
            grants=tuple(
                ClaimGrant(each.value, each.role, each.vault_id and each.vault_id.lower())
                for each in self.roles
            ),
        )


def secure_url(value: str) -> str:
    """Return an https URL as it is, its last slash too; ValueError for anything else."""
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https:// URL with a host, without query and fragment")
    if parts.username is not None or parts.port == 0:
        raise ValueError("must be a URL without a user's name, whose port can be connected to")
    return value
