"""Tiny real wheels, stubs of installed packages, and a package index on loopback that can break off."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def _metadata(name: str, version: str, requires: Iterable[str]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    return "\n".join(lines + [f"Requires-Dist: {need}" for need in requires]) + "\n"


def _folder(name: str, version: str) -> str:
    return f"{name.replace('-', '_')}-{version}.dist-info"


def write_wheel(folder: Path, name: str, version: str, requires: Iterable[str] = (), script: str = "") -> Path:
    """A wheel with a module of its package's name, which holds its version, and perhaps a command of that name."""
    module, info = name.replace("-", "_"), _folder(name, version)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    files = {
        f"{module}/__init__.py": f"VERSION = __version__ = {version!r}\n",
        f"{info}/METADATA": _metadata(name, version, requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{module}-{version}.data/scripts/{name}"] = script
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            entry = zipfile.ZipInfo(inside)
            entry.external_attr = 0o100755 << 16  # a regular file that may be run
            wheel.writestr(entry, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{inside},,\n" for inside in (*files, f"{info}/RECORD")))
    return path


def stub_installed(site: Path, name: str, version: str, requires: Iterable[str] = ()) -> None:
    """What makes pip, uv and importlib.metadata believe that a package is installed."""
    info = site / _folder(name, version)
    info.mkdir()
    (info / "METADATA").write_text(_metadata(name, version, requires))


class Index:
    """The wheels of a folder, as pip and uv ask for them; `breaks` names a package whose wheel ends half-way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.breaks = ""
        self.requests: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"index": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def __enter__(self) -> Index:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def _link(path: Path) -> str:
    """Its metadata can be had without it, as on the real index."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f'<a href="/{path.name}#sha256={digest}" data-core-metadata="true">{path.name}</a>'


class _Handler(BaseHTTPRequestHandler):
    index: Index

    def do_GET(self) -> None:
        self.index.requests.append(self.path)
        name = self.path.strip("/").rpartition("/")[2]
        if name.endswith(".metadata"):
            with zipfile.ZipFile(self.index.folder / name.removesuffix(".metadata")) as wheel:
                (inside,) = [path for path in wheel.namelist() if path.endswith("/METADATA")]
                body = wheel.read(inside)
        elif name.endswith(".whl"):
            body = (self.index.folder / name).read_bytes()
        else:
            found = sorted(self.index.folder.glob(f"{name.replace('-', '_')}-*.whl"))
            body = "".join(_link(path) for path in found).encode()
        if not body:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if name + "/" in self.path else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        broken = bool(self.index.breaks) and name.startswith(self.index.breaks) and name.endswith(".whl")
        self.wfile.write(body[: len(body) // 2] if broken else body)
        self.close_connection = broken
        return None

    def log_message(self, *_: object) -> None:
        pass
