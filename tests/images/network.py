"""A bridge with a network namespace for each container, and the names they know each other by."""

import json
import re
import shlex
import signal
import subprocess
from pathlib import Path

from tests.images.tools import run

BRIDGE = "hidiffusion0"
_PREFIX = "10.213.0"


class Network:
    """Each name that is asked for gets a namespace and an address; `close` takes all away.

    Containers of one service, such as api-1 and api-2, share the service's name in `hosts` and for
    the name server of `resolver`, as in Docker's networks.
    """

    def __init__(self, folder: Path) -> None:
        self.hosts = folder / "hosts"
        self.resolver = folder / "resolv.conf"
        self._addresses: dict[str, str] = {}
        self._pointed: dict[str, list[str]] = {}
        self._number = 1
        self._remove_left_over()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{_PREFIX}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        self.resolver.write_text(f"nameserver {_PREFIX}.1\n")
        self._write()
        self._names = subprocess.Popen(
            shlex.split(
                "setpriv --pdeathsig KILL dnsmasq --keep-in-foreground --conf-file=/dev/null"
                f" --user=root --pid-file --no-resolv --no-hosts --addn-hosts={self.hosts}"
                f" --bind-interfaces --listen-address={_PREFIX}.1 --local-ttl=0"
            )
        )

    def add(self, name: str) -> str:
        """The namespace for the container of this name."""
        space = f"hidiffusion-{name}"
        if name in self._addresses:
            return space
        self._number = number = self._number + 1
        self._addresses[name] = f"{_PREFIX}.{number}"
        ours, theirs = f"hidv{number}a", f"hidv{number}b"
        run("ip", "netns", "add", space)
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
        run("ip", "link", "set", ours, "master", BRIDGE, "up")
        run("ip", "link", "set", theirs, "netns", space, "name", "eth0")
        inside = ("ip", "-n", space)
        run(*inside, "address", "add", f"{self._addresses[name]}/24", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        self._tell()
        return space

    def remove(self, name: str) -> None:
        """Take away what `add` made; its address is not given again."""
        del self._addresses[name]
        run("ip", "netns", "delete", f"hidiffusion-{name}")
        self._tell()

    def point(self, service: str, names: list[str]) -> None:
        """From now on a service's name means these containers, whatever they are called."""
        self._pointed[service] = names
        self._tell()

    def address(self, name: str) -> str:
        """The address of a container."""
        return self._addresses[name]

    def close(self) -> None:
        """Remove the bridge and every namespace."""
        self._names.kill()
        self._names.wait()
        self._remove_left_over()

    def _tell(self) -> None:
        self._write()
        self._names.send_signal(signal.SIGHUP)  # reads the file again

    def _write(self) -> None:
        lines = ["127.0.0.1 localhost"]
        for name, address in self._addresses.items():
            service = re.sub(r"-\d+$", "", name)
            known = [name] if service in self._pointed else [name, service]
            lines.append(f"{address} {' '.join(known)}")
        for service, names in self._pointed.items():
            there = [self._addresses[name] for name in names if name in self._addresses]
            lines += [f"{address} {service}" for address in there]
        self.hosts.write_text("\n".join(lines) + "\n")

    def _remove_left_over(self) -> None:
        spaces = run("ip", "netns", "list").split()
        for space in spaces:
            if space.startswith("hidiffusion-"):
                run("ip", "netns", "delete", space)
        # A link outlives its namespace for as long as a killed run holds that open; others go by
        # themselves, perhaps between these two commands.
        for link in json.loads(run("ip", "-json", "link", "list")):
            if link["ifname"] == BRIDGE or re.fullmatch(r"hidv\d+a", link["ifname"]):
                delete = ["ip", "link", "delete", link["ifname"]]
                subprocess.run(delete, stderr=subprocess.DEVNULL, check=False)
