"""Request bodies: bounded in bytes and in time, then checked by their model."""

import asyncio
from typing import Final, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from pydantic import BaseModel

from service_hub.provider_api.problems import ProblemError, invalid

BODY_SECONDS_MAX: Final = 60.0

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: web.Request, bytes_max: int) -> bytes:
    """Return the whole body; ProblemError when it is too large, too slow or broken off."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ProblemError(
            415, "UnsupportedEncoding", "The body is encoded.", "Send it without Content-Encoding."
        )
    if (request.content_length or 0) > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > bytes_max:
                    raise _too_large(bytes_max)
    except TimeoutError as error:
        raise ProblemError(
            408, "RequestTimeout", "The body did not arrive in time.", "Send it again."
        ) from error
    except (RequestPayloadError, HttpProcessingError, ConnectionError) as error:
        raise invalid("The body broke off or is not what its headers say.") from error
    return bytes(body)


def parse(model: type[ModelT], body: bytes) -> ModelT:
    """Return the message in a JSON body; ValidationError says where it is wrong."""
    return model.model_validate_json(body)


def answer(model: BaseModel) -> web.Response:
    """Return a message as the answer."""
    return web.Response(body=model.model_dump_json().encode(), content_type="application/json")


def _too_large(bytes_max: int) -> ProblemError:
    return ProblemError(
        413, "TooLarge", f"The body is larger than {bytes_max} bytes.", "Send less at once."
    )
