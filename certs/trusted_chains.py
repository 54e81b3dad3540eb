"""The chain that a hub shows, and the next one while its root is replaced."""

from collections.abc import Collection

from certs.chain import TrustChain


class TrustedChains:
    """What a hub issues from and trusts; it changes while the hub runs, at one stroke.

    `statement` is the roots' own word on which of them to trust, `serial` its number; a hub whose
    root was never replaced has none.
    """

    def __init__(
        self,
        present: TrustChain,
        successor: TrustChain | None = None,
        *,
        statement: str | None = None,
        serial: int = 0,
    ) -> None:
        self.present = present
        self.successor = successor
        self.statement = statement
        self.serial = serial

    def become(self, other: "TrustedChains") -> None:
        """Be what `other` is from now on."""
        self.present, self.successor = other.present, other.successor
        self.statement, self.serial = other.statement, other.serial

    @property
    def all(self) -> tuple[TrustChain, ...]:
        """The chains that are trusted, newest last."""
        if self.successor is None:
            return (self.present,)
        return (self.present, self.successor)

    @property
    def newest(self) -> TrustChain:
        """The chain for those who have learnt of its root."""
        return self.all[-1]

    @property
    def roots_pem(self) -> str:
        """Every root that is trusted, newest last."""
        return "".join(chain.root_pem for chain in self.all)

    @property
    def management_cas_pem(self) -> str:
        """The authorities of provider certificates."""
        return "".join(chain.management_ca_pem for chain in self.all)

    @property
    def registration_cas_pem(self) -> str:
        """The authorities of vault registration certificates."""
        return "".join(chain.registration_ca_pem for chain in self.all)

    def known_by(self, trusted_roots: Collection[str]) -> TrustChain:
        """Return the newest chain whose root somebody trusts who trusts these (thumbprints).

        Who has never said what it trusts gets the present one.
        """
        newest = self.newest
        return newest if newest.root_thumbprint in trusted_roots else self.present
