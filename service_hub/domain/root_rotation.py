"""How far the servers are with a new root; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service_hub.domain.records import ManagementCertificate, Provider


@dataclass(frozen=True, slots=True)
class NewRoot:
    """A root that is to replace the present one: its thumbprint, and since when it is trusted."""

    thumbprint: str
    announced_at: datetime


@dataclass(frozen=True, slots=True)
class RootProgress:
    """A registered server: whether it trusts the new root, and is known by a certificate of it."""

    provider: Provider
    trusts: bool
    renewed: bool

    @property
    def is_behind(self) -> bool:
        """Whether it would be lost if trust in the former root ended now."""
        return not (self.trusts and self.renewed)


def progress(
    providers: Sequence[Provider],
    certificates: Sequence[ManagementCertificate],
    root: str,
    now: datetime,
) -> list[RootProgress]:
    """Return how far each registered server is with the root of this thumbprint.

    A certificate counts once it was used: only then is it known to have arrived.
    """
    renewed = {
        each.provider_id
        for each in certificates
        if each.root == root
        and each.used_at is not None
        and each.revoked_at is None
        and (each.expires_at is None or now < each.expires_at)
    }
    return [
        RootProgress(each, trusts=root in each.trusted_roots, renewed=each.id in renewed)
        for each in providers
        if each.registered_at is not None
    ]
