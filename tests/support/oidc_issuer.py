"""A small OpenID Connect issuer as a program of its own, with TLS: discovery, keys, tokens.

`python -m tests.support.oidc_issuer FOLDER PORT` serves until it is ended. Whoever asks may have a
key made anew and any claims signed: it is for tests alone.
"""

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, KeyParameters, RSAKey

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context, server_context
from service_shell.clock import SystemClock
from tests.support.real_hub import send

HOST = "127.0.0.1"
SECONDS_MAX = 20
JSON = {"Content-Type": "application/json"}


class _Issuer:
    def __init__(self, address: str) -> None:
        self.address = address
        self.made = 0
        self.keys: list[tuple[str, RSAKey | ECKey]] = []
        self.rotate("RS256")

    def rotate(self, algorithm: str) -> None:
        self.made += 1
        named: KeyParameters = {"kid": f"key-{self.made}", "use": "sig", "alg": algorithm}
        if algorithm.startswith("ES"):
            private = ec.generate_private_key(ec.SECP256R1())
            self.keys = [
                (algorithm, ECKey.import_key(ECKey(private, private).as_dict(private=True), named))
            ]
        else:
            signer = rsa.generate_private_key(65537, 2048)
            self.keys = [
                (algorithm, RSAKey.import_key(RSAKey(signer, signer).as_dict(private=True), named))
            ]

    async def discovery(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"issuer": self.address, "jwks_uri": f"{self.address}/keys"})

    async def published(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"keys": [key.as_dict(private=False) for _, key in self.keys]})

    async def sign(self, request: web.Request) -> web.Response:
        algorithm, key = self.keys[-1]
        header = {"alg": algorithm, "kid": key.kid}
        return web.Response(text=jwt.encode(header, await request.json(), key, [algorithm]))

    async def turn(self, request: web.Request) -> web.Response:
        self.rotate((await request.json())["algorithm"])
        return web.Response()


def serve(folder: Path, port: int) -> None:
    """Serve at a port; `root.pem` of the folder is what its certificate is verified with."""
    now = SystemClock().now()
    trust, key = TrustChain.create(now, "Issuer"), new_private_key()
    issued = trust.issue(Profile.HUB_SERVER, key.public_key(), HOST, now, ip_addresses=[HOST])
    (folder / "root.pem").write_text(trust.root_pem)
    issuer, application = _Issuer(f"https://{HOST}:{port}"), web.Application()
    application.add_routes(
        [
            web.get("/.well-known/openid-configuration", issuer.discovery),
            web.get("/keys", issuer.published),
            web.post("/sign", issuer.sign),
            web.post("/rotate", issuer.turn),
        ]
    )
    tls = server_context(issued.chain_pem, private_key_pem(key))
    web.run_app(application, host=HOST, port=port, ssl_context=tls, print=_tell)


def _tell(_banner: str) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


@dataclass
class RunningIssuer:
    """The program, as a test asks it."""

    address: str
    ca_file: Path
    port: int
    tls: ssl.SSLContext
    process: "subprocess.Popen[str]"

    def ask(self, path: str, content: dict[str, Any]) -> str:
        """Send it something; return its answer."""
        answer = send((self.port, self.tls), "POST", path, json.dumps(content).encode(), JSON)
        assert answer.code == 200, answer
        return answer.body.decode()

    def token(self, **claims: Any) -> str:
        """Return a token that it signs; `ends_in` seconds from now, for `audience`."""
        now = int(SystemClock().now().timestamp())
        ends_in = claims.pop("ends_in", 600)
        usual = {"iss": self.address, "aud": "hub", "sub": "ines", "iat": now, "exp": now + ends_in}
        return self.ask("/sign", {**usual, **claims})

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Have it answer nobody, though it still listens, in the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_issuer(folder: Path, free_port: Callable[[], int]) -> Iterator[RunningIssuer]:
    """Run an issuer until the block is left."""
    port = free_port()
    command = [sys.executable, "-m", "tests.support.oidc_issuer", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            root = folder / "root.pem"
            tls = client_context(root.read_text())
            yield RunningIssuer(f"https://{HOST}:{port}", root, port, tls, process)
        finally:
            process.terminate()
            process.wait(SECONDS_MAX)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
