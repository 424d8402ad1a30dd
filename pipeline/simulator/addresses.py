"""HOST:PORT on the command line, and the rule that the simulator talks to this machine only."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from pipeline.simulator.config import ConfigError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A loopback address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(option: str, value: str) -> Endpoint:
    """Read HOST:PORT. Raises ConfigError unless the host is a loopback address (or "localhost")."""
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{option} {value!r}: must be HOST:PORT with a port from 1 to 65535, as 127.0.0.1:2525.")
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ConfigError(f"{option} {value!r}: the host must be an IP address, as in 127.0.0.1:2525.") from error
    if not address.is_loopback:
        raise ConfigError(f"{option} {value!r}: the simulator talks to this machine only: give a loopback address.")
    return Endpoint(str(address), int(port))
