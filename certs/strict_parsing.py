"""Parsing of foreign bytes without mercy: what the library merely warns of is refused."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def strict_parsing() -> Iterator[None]:
    """Turn the warnings of `cryptography` into ValueError while the block runs.

    It warns of what a later release will refuse (serial numbers that are not positive, BER where
    DER is due); a peer must not be able to fill our log with it, nor pass with it until then.
    Warning filters belong to the whole process: do not wait inside the block.
    """
    with warnings.catch_warnings():
        # Its deprecation warnings are UserWarnings too.
        warnings.simplefilter("error", UserWarning)
        try:
            yield
        except UserWarning as error:
            raise ValueError(str(error)) from error
