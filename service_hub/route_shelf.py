"""Many routes of one dialect, found by the form of a path instead of by trying one after another.

aiohttp finds a resource by the fixed beginning of its path. That of the ARM dialect is the same for
all, and may be spelt in any case: some eighty patterns would be tried for each request. Here only
those are tried that have as many segments and the same last but one, in the order of the table.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from aiohttp import web
from yarl import URL

Segments = tuple[str | None, ...]
"""Of a path, in lower case; None for what may be anything."""


class RouteShelf(web.AbstractResource):
    """Resolves as its resources would one after another."""

    def __init__(self, shelved: Sequence[tuple[Segments, web.AbstractRouteDef]]) -> None:
        super().__init__()
        self._places: dict[tuple[int, str | None], list[web.AbstractResource]] = {}
        self._resources: list[web.AbstractResource] = []
        forms: list[Segments] = []
        for segments, route in shelved:
            router = web.UrlDispatcher()
            route.register(router)
            (resource,) = router.resources()
            self._resources.append(resource)
            forms.append(segments)
        for form in forms:
            self._places.setdefault(_place(form), [])
            self._places.setdefault((len(form), None), [])
        for place, resources in self._places.items():
            resources += [
                resource
                for form, resource in zip(forms, self._resources, strict=True)
                if len(form) == place[0] and _place(form)[1] in {None, place[1]}
            ]

    async def resolve(
        self, request: web.Request
    ) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Return the first route that fits, and the methods of those that fit but for theirs."""
        segments = request.rel_url.path_safe.split("/")[1:]
        place = _place([each.lower() for each in segments[-2:]])[1]
        found = self._places.get((len(segments), place))
        if found is None:
            found = self._places.get((len(segments), None), [])
        allowed: set[str] = set()
        for resource in found:
            match, methods = await resource.resolve(request)
            if match is not None:
                return match, methods
            allowed |= methods
        return None, allowed

    @property
    def canonical(self) -> str:
        """Return what all paths begin with."""
        return "/"

    def url_for(self, **kwargs: str) -> URL:
        """Raise: URLs in answers are made of the configured one."""
        del kwargs
        return self._no_single_path()

    def add_prefix(self, prefix: str) -> None:
        """Raise: it is no part of another application."""
        del prefix
        self._no_single_path()

    def get_info(self) -> Any:
        """Return what it begins with."""
        return {"path": self.canonical}

    def raw_match(self, path: str) -> bool:
        """Return False: nothing else is added to it."""
        del path
        return False

    def __len__(self) -> int:
        return sum(len(each) for each in self._resources)

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return (route for resource in self._resources for route in resource)

    def _no_single_path(self) -> NoReturn:
        raise RuntimeError("a shelf of routes has no path of its own: ask one of its routes")


def _place(segments: Sequence[str | None]) -> tuple[int, str | None]:
    """Return how many segments there are, and the last but one."""
    return len(segments), segments[-2] if len(segments) > 1 else None
