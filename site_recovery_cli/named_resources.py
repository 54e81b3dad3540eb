"""Resources as commands name them: by name, by PLACE/NAME, by id; never by a guess."""

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError

CANDIDATES_SHOWN_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Named:
    """A resource of the SDK, what people call it, and the server or cloud that it lies in."""

    resource: Any
    name: str
    place: str = ""

    @property
    def full_name(self) -> str:
        """The name with its place, which tells it from others of the same name."""
        return f"{self.place}/{self.name}" if self.place else self.name

    @property
    def known_as(self) -> frozenset[str]:
        """All that it may be called, folded."""
        resource = self.resource
        return frozenset(
            str(each).lower()
            for each in (self.name, self.full_name, resource.name, resource.id)
            if each
        )

    @property
    def path(self) -> tuple[str, ...]:
        """The names in its id below the vault, as the SDK's calls take them."""
        return names_below_vault(self.resource.id or "")


def names_below_vault(resource_id: str) -> tuple[str, ...]:
    """Return the names in an ARM id below its vault: of kind/name/kind/name, every second part."""
    parts = resource_id.split("/")
    folded = [part.lower() for part in parts]
    below = parts[folded.index("vaults") + 2 :] if "vaults" in folded else []
    return tuple(below[1::2])


async def listed(resources: AsyncIterable[Any]) -> list[Any]:
    """Return all pages of a listing."""
    return [each async for each in resources]


def choose(kind: str, wanted: str, candidates: Sequence[Named], lister: str) -> Named:
    """Return the one that is called so; CommandError names the candidates, or the command to ask.

    `kind`: a word for one of them; `lister`: the command that lists them.
    """
    found = [each for each in candidates if wanted.lower() in each.known_as]
    if not found:
        raise CommandError(
            f"there is no {kind} {wanted} in this vault; see: site-recovery {lister}",
            ExitCode.NOT_FOUND,
        )
    if len(found) > 1:
        # Where even the places agree, the ids alone tell them apart.
        told = {each.full_name for each in found}
        names = [
            each.full_name if len(told) == len(found) else f"{each.full_name} ({each.resource.id})"
            for each in found[:CANDIDATES_SHOWN_MAX]
        ]
        more = "" if len(found) <= CANDIDATES_SHOWN_MAX else ", ..."
        raise CommandError(
            f"{len(found)} {kind}s are named {wanted}: {', '.join(names)}{more};"
            " name one of them in full",
            ExitCode.USAGE,
        )
    return found[0]
