"""The baseline of connects per second: asyncio with mutual TLS, and nothing behind it.

bare_server.py GROUND
"""

import asyncio
import sys
from pathlib import Path

import uvloop

from benchmarks.channel.provision import HOST, Ground
from certs.tls import server_context


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one byte with one byte."""
    try:
        writer.write(await reader.readexactly(1))
        await reader.read()
    except (OSError, asyncio.IncompleteReadError):
        writer.transport.abort()
    finally:
        writer.close()


async def main(ground_file: Path) -> None:
    """Serve until standard input ends; prints the port."""
    ground = Ground.load(ground_file)
    context = server_context(
        ground.server_chain_pem,
        ground.server_key_pem.encode(),
        client_ca_pems=(ground.management_ca_pem,),
        require_client=True,
    )
    server = await asyncio.start_server(answer, HOST, 0, ssl=context, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
