"""Configuration of a mosquitto that delivers the hub's events; pure (design: channel, back ends).

Measured with mosquitto 2.0.11: options that belong to a listener are silently ignored above its
`listener` line, and then one provider can evict another by taking its client id.
"""

from pathlib import Path
from typing import Final

HUB_IDENTITY: Final = "hub"
"""Common name of the hub's own certificate at the broker; a provider's is always a GUID."""

ACCESS_FILE: Final = "access.acl"
AUTHORITY_FILE: Final = "clients-ca.pem"
CERTIFICATE_FILE: Final = "server.pem"
KEY_FILE: Final = "server.key"
REVOKED_FILE: Final = "revoked.crl"
CONFIGURATION_FILE: Final = "mosquitto.conf"

ACCESS: Final = f"""\
# Written by service-hub; who may do what is decided by the certificate's common name (%u).
user {HUB_IDENTITY}
topic write hub/#
topic read prov/#

pattern read hub/ev/%u
pattern read hub/all
pattern write prov/%u/#
"""


def mosquitto_configuration(folder: Path, host: str, port: int) -> str:
    """Return mosquitto.conf for the files of `folder`; the order of its lines matters."""
    return f"""\
# Written by service-hub. What stands below `listener` belongs to it: do not move it above.
per_listener_settings false
persistence false
allow_anonymous false
acl_file {folder / ACCESS_FILE}
max_packet_size 131072
max_queued_messages 100
log_dest stderr
log_type warning
log_type error

listener {port} {host}
cafile {folder / AUTHORITY_FILE}
certfile {folder / CERTIFICATE_FILE}
keyfile {folder / KEY_FILE}
tls_version tlsv1.2
crlfile {folder / REVOKED_FILE}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""
