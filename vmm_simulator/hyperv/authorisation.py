"""Who may replicate to a host, where its replicas go, and who is trusted together; pure.

Rules of the field (behaviour 1.4): entries name a primary server by its FQDN, or a whole domain by
a wildcard as first label; each says where replicas are stored and to which trust group its server
belongs. A virtual machine that moves between servers of one group keeps replicating. Where every
server is allowed there is one location and one group, DEFAULT. Hosts that VMM paired are entries
too: each pairing is a group of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ENTRIES_MAX: Final = 256
DEFAULT_GROUP: Final = "DEFAULT"
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
PRIMARY_PATTERN: Final = rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$"
_WILDCARD: Final = "*."

StorageLocation = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$", max_length=4096)]


class AuthorisationEntry(BaseModel):
    """One primary server, or all of a domain (`*.example`); no location: the host's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: Annotated[str, StringConstraints(pattern=PRIMARY_PATTERN, max_length=253)]
    trust_group: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    storage_location: StorageLocation | None = None

    def names(self, fqdn: str) -> bool:
        """Return whether the entry is about this server."""
        primary, server = self.primary.lower(), fqdn.lower()
        if not primary.startswith(_WILDCARD):
            return primary == server
        # The wildcard stands for one label or more, never for none.
        return server.endswith(primary[1:]) and len(server) > len(primary) - 1


class Authorisations(BaseModel):
    """What an administrator has entered on a host, beside what pairings bring.

    `any_server`: the location of the replicas of every server that proves who it is; without it
    only entries count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[AuthorisationEntry, ...] = Field(default=(), max_length=ENTRIES_MAX)
    any_server: StorageLocation | None = None


def entry_for(
    fqdn: str,
    entered: Authorisations,
    paired: Mapping[str, Sequence[str]],
    brokers: Sequence[str] = (),
) -> AuthorisationEntry | None:
    """Return the entry that lets this server in, or None.

    `brokers`: replica brokers that it stands for as a node of their cluster; their entries are its
    own too (behaviour 1.4). An exact name counts before a broker's, that before a wildcard, the
    longest wildcard before shorter ones, what was entered before what a pairing brought, and all of
    them before "any server".
    """

    def rank(entry: AuthorisationEntry) -> tuple[bool, bool, int]:
        wildcard = entry.primary.startswith(_WILDCARD)
        return wildcard, not entry.names(fqdn), -len(entry.primary)

    known_as = (fqdn, *brokers)
    fitting = [entry for entry in entered.entries if any(map(entry.names, known_as))]
    fitting.sort(key=rank)
    if fitting:
        return fitting[0]
    for group, names in sorted(paired.items()):
        if fqdn.lower() in {name.lower() for name in names}:
            return AuthorisationEntry(primary=fqdn, trust_group=group)
    if entered.any_server is not None:
        return AuthorisationEntry(
            primary=fqdn, trust_group=DEFAULT_GROUP, storage_location=entered.any_server
        )
    return None


def same_group(
    one: str,
    other: str,
    entered: Authorisations,
    paired: Mapping[str, Sequence[str]],
    brokers: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> bool:
    """Return whether both servers are let in and trusted together; `brokers`: of each."""
    if one.lower() == other.lower():
        return entry_for(other, entered, paired, brokers[1]) is not None
    groups = [
        entry_for(name, entered, paired, of) for name, of in zip((one, other), brokers, strict=True)
    ]
    if groups[0] is None or groups[1] is None:
        return False
    if groups[0].trust_group == groups[1].trust_group:
        return True
    # A server of several pairings belongs to the group of each.
    return any(
        {one.lower(), other.lower()} <= {name.lower() for name in names}
        for names in paired.values()
    )
