"""Closed, frozen models whose changed copies cost little: a decision makes a dozen of them."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

_set = object.__setattr__


class Immutable(BaseModel):
    """A value: compared by its fields, never changed, closed to fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return it with these fields changed; they are not checked, as in pydantic's own copy.

        Half of that one's time: nothing here has private or extra fields to copy.
        """
        if deep or not update:
            return super().model_copy(update=update, deep=deep)
        kind = type(self)
        copy = kind.__new__(kind)
        known = self.__pydantic_fields_set__
        _set(copy, "__dict__", {**self.__dict__, **update})
        known = known if update.keys() <= known else known | update.keys()
        _set(copy, "__pydantic_fields_set__", known)
        _set(copy, "__pydantic_extra__", None)
        _set(copy, "__pydantic_private__", None)
        return copy
