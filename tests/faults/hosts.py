"""Hosts that are joined by wires: network namespaces of Linux, in which a test runs servers and processes.

Each host has one address, and one wire to a switch. The test's own process is at the switch. A wire can be
cut and mended. Only root can make hosts.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import missing


@dataclass(frozen=True)
class Host:
    """A host. name: of its namespace, and of the end of its wire that is at the switch."""

    name: str
    address: str

    def command(self, *command: str) -> list[str]:
        """Return what runs the command on this host. The process keeps its id."""
        return ["ip", "netns", "exec", self.name, *command]

    def runs(self, pid: int) -> bool:
        """Return whether the process with this id runs on this host."""
        return Path(f"/proc/{pid}/ns/net").samefile(f"/run/netns/{self.name}")

    def cut(self) -> None:
        """Cut the wire. Nobody is told: every packet is lost."""
        run("ip", "link", "set", self.name, "down")

    def reset_and_cut(self) -> None:
        """Reset every connection of this host, so that both ends see an error, and cut the wire."""
        run(*self.command("ss", "--kill", "--tcp", "state", "established"))
        self.cut()

    def mend(self) -> None:
        """Mend the wire."""
        run("ip", "link", "set", self.name, "up")


class _ThisMachine(Host):
    """The machine of the test itself, with its loopback address. It has no wire."""

    def command(self, *command: str) -> list[str]:
        return [*command]


THIS_MACHINE = _ThisMachine("localhost", "127.0.0.1")


@contextmanager
def joined_hosts(*names: str) -> Iterator[dict[str, Host]]:
    """Yield {name: a host of that name}, all at one switch. They are removed at the end.

    Their addresses are from 198.18.0.0/15, which RFC 2544 keeps for tests.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("ss") is None:
        missing("only root can make network namespaces, with the programs ip and ss")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
        pytest.skip("SKIPPED LOUDLY: this machine lets nobody make a network namespace, as in a container")
    with ExitStack() as stack:
        number = _make_switch(stack)
        hosts = {}
        for index, name in enumerate(names, start=2):
            host = Host(f"p{number}-{name}", f"198.18.{number}.{index}")
            _join(host, f"p{number}", stack)
            hosts[name] = host
        yield hosts


def _make_switch(stack: ExitStack) -> int:
    """Make a switch that no other test has; return its number, the third of the four of its addresses."""
    for number in count(1):
        made = subprocess.run(["ip", "link", "add", f"p{number}", "type", "bridge"], capture_output=True)
        if made.returncode == 0:
            break
        assert number < 200, made.stderr
    stack.callback(run, "ip", "link", "delete", f"p{number}")
    run("ip", "address", "add", f"198.18.{number}.1/24", "dev", f"p{number}")
    run("ip", "link", "set", f"p{number}", "up")
    return number


def _join(host: Host, switch: str, stack: ExitStack) -> None:
    run("ip", "netns", "add", host.name)
    stack.callback(run, "ip", "netns", "delete", host.name)
    run(*("ip", "link", "add", host.name, "type", "veth"), *("peer", "name", "wire", "netns", host.name))
    run("ip", "link", "set", host.name, "master", switch, "up")
    inside = ("ip", "-netns", host.name)
    run(*inside, "address", "add", f"{host.address}/24", "dev", "wire")
    run(*inside, "link", "set", "wire", "up")
    run(*inside, "link", "set", "lo", "up")


def run(*command: str) -> None:
    """Run a command. Fails with what it prints if it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}"
