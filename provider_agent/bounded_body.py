"""Foreign bytes over HTTP are read up to a limit, never further."""

import aiohttp


class BodyTooLargeError(Exception):
    """The answer is larger than it may be."""


async def read_bounded(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """Return the whole body of at most `bytes_max` bytes, or raise BodyTooLargeError."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            response.close()
            raise BodyTooLargeError(f"the answer is larger than {bytes_max} bytes")
    return bytes(body)
