"""If-Match (RFC 9110, section 13.1.1): a change is made to the version that the client has seen."""

from service_hub.arm.calls import Answer, Call, Handler
from service_hub.domain.errors import PreconditionFailedError

ANY = "*"


def matching(call: Call, etag: str) -> bool:
    """Tell whether a client insists on a version, which then is this one.

    False where it takes any; PreconditionFailedError where it has seen another.
    """
    if call.if_match is None or call.if_match.strip() == ANY:
        return False
    if etag not in {each.strip() for each in call.if_match.split(",")}:
        raise PreconditionFailedError(
            f"The resource is at version {etag}, not at {call.if_match}: it was changed since. Get"
            " it anew, and change that."
        )
    return True


def without_versions(handler: Handler) -> Handler:
    """Return the handler of a resource that has no versions: If-Match is refused, not ignored."""

    async def handle(call: Call) -> Answer:
        if call.if_match is not None and call.if_match.strip() != ANY:
            raise PreconditionFailedError(
                "This resource has no etag, so that no version of it can match. Send the request"
                " without If-Match."
            )
        return await handler(call)

    return handle
