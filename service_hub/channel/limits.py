"""The bounds of the hub's own MQTT listener, in one place; tests choose shorter ones."""

from dataclasses import dataclass

from service_hub.channel.packets import PACKET_BYTES_MAX


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """What one peer may cost; durations in seconds.

    `connect_seconds` runs from the end of the TLS handshake to CONNACK. A peer whose socket takes
    nothing for `write_stalled_seconds` is dropped; what it missed is replayed when it returns.
    `held_off_seconds`: for so long the certificate of a peer that sent garbage is not served,
    since every panic of the codec prints a line.
    """

    handshake_seconds: float = 10.0
    connect_seconds: float = 10.0
    close_seconds: float = 5.0
    keep_alive_seconds: int = 120
    keep_alive_factor: float = 1.5
    write_stalled_seconds: float = 10.0
    write_buffer_bytes: int = 131_072
    packet_bytes: int = PACKET_BYTES_MAX
    held_off_seconds: float = 30.0
    connections: int = 10_000
    connections_per_certificate: int = 8
