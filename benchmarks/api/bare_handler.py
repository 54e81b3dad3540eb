"""The baseline: aiohttp with the hub's own TLS, and a handler that gives the bytes of a file.

bare_handler.py GROUND FOLDER: GET /NAME answers the content of the file NAME there.
"""

import asyncio
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from benchmarks.channel.provision import HOST, Ground
from certs.tls import server_context


async def main(ground_file: Path, bodies: dict[str, bytes]) -> None:
    """Serve until standard input ends; prints the port."""
    ground = Ground.load(ground_file)

    async def give(request: web.Request) -> web.Response:
        body = bodies[request.match_info["name"]]
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_get("/{name}", give)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    tls = server_context(ground.server_chain_pem, ground.server_key_pem.encode())
    await web.TCPSite(runner, HOST, 0, ssl_context=tls).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        given = {each.name: each.read_bytes() for each in Path(sys.argv[2]).iterdir()}
        loop.run(main(Path(sys.argv[1]), given))
