"""As much of the hub's API as huggingface_hub and transformers ask for, on loopback, with ways to fail.

    with Hub() as hub:
        hub.repositories["someone/tiny"] = {"config.json": b"{}"}
        subprocess.run(..., env=hub.environment(tmp_path))

`hub.failure` makes every answer one of FAILURES from then on, and `hub.refused` refuses paths. Written after
huggingface_hub 1.33's hf_api.py, _commit_api.py and file_download.py; all files are "regular" ones, which travel inside
the commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

FAILURES = ("hang", "500", "reset", "gated", "401", "404")


class Hub:
    """A hub of its own port; `repositories` maps a repository to its files, `requests` is what was asked so far."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, list[tuple[str, set[str]]]] = {}  # of each repository, oldest first: title, blobs
        self.blobs: dict[str, int] = {}  # size in bytes of every file's content that was ever committed
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.failure: str | None = None
        self.refused: set[str] = set()  # parts of paths, such as "super-squash"
        self.released = threading.Event()  # of those that hang
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: Path, token: str | None = "hf_test", **more: str) -> dict[str, str]:
        """For a process that takes this for the hub, with an empty cache."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        return kept | ours | ({"HF_TOKEN": token} if token else {}) | more

    def history(self, repository: str) -> int:
        """The bytes of all files in all commits: what the hub cannot give up."""
        return sum(self.blobs[name] for name in set().union(*(blobs for _, blobs in self.commits[repository])))

    def committed(self, repository: str, title: str) -> None:
        contents = self.repositories[repository].values()
        self.blobs.update({blob(content): len(content) for content in contents})
        self.commits.setdefault(repository, []).append((title, {blob(content) for content in contents}))

    def sha(self, repository: str) -> str:
        files = self.repositories[repository]
        return hashlib.sha1(b"".join(k.encode() + blob(v).encode() for k, v in sorted(files.items()))).hexdigest()


def blob(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_GET

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if not self.hub.refused.isdisjoint(path.split("/")):
            self.send(403, {"error": "Forbidden"})
            return
        match self.hub.failure:
            case "hang":
                self.hub.released.wait()
                self.close_connection = True
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case "500":
                self.send(500, {"error": "Internal Error"})
            case "gated":
                self.send(403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
            case "401":
                self.send(401, {"error": "Invalid username or password."})
            case "404":
                self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            case _:
                self.route(path.strip("/").split("/"), body)

    def route(self, parts: list[str], body: bytes) -> None:
        if parts == ["api", "repos", "create"]:
            self.create(json.loads(body))
            return
        if parts == ["api", "validate-yaml"]:  # of a README.md, which huggingface_hub asks before it sends one
            base = re.search(r"^base_model: (.*)$", json.loads(body)["content"], re.MULTILINE)
            wrong = base is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base[1])
            errors = [{"message": '"base_model" is not valid. Use a model id from https://hf.co/models.'}] * wrong
            self.send(400 if wrong else 200, {"errors": errors, "warnings": []})
            return
        repository = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        if repository not in self.hub.repositories:
            self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        files = self.hub.repositories[repository]
        match parts[2:] if parts[0] != "api" else ["api", *parts[4:]]:
            case ["api"] | ["api", "revision", _]:
                about = {"id": repository, "modelId": repository, "sha": self.hub.sha(repository), "tags": []}
                about["private"] = repository in self.hub.private
                self.send(200, about | {"siblings": [{"rfilename": name} for name in files]})
            case ["api", "tree", _, *folder]:
                prefix = "".join(f"{part}/" for part in folder)
                found = {name: content for name, content in files.items() if name.startswith(prefix)}
                if folder and not found:
                    self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
                    return
                self.send(200, [{"type": "file", "path": n, "size": len(c), "oid": blob(c)} for n, c in found.items()])
            case ["api", "preupload", _]:
                asked = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in asked]
                self.send(
                    200, {"files": [m | ({"oid": blob(files[m["path"]])} if m["path"] in files else {}) for m in modes]}
                )
            case ["api", "commit", _]:
                self.commit(repository, [json.loads(line) for line in body.splitlines()])
            case ["api", "commits" | "super-squash" as asked_for, _]:
                self.about_history(repository, asked_for, body)
            case ["resolve", _, *name] if "/".join(name) in files:
                content = files["/".join(name)]
                headers = {"X-Repo-Commit": self.hub.sha(repository), "ETag": f'"{blob(content)}"'}
                self.send(200, content, headers)
            case ["resolve", _, *_]:
                headers = {"X-Repo-Commit": self.hub.sha(repository), "X-Error-Code": "EntryNotFound"}
                self.send(404, {"error": "Entry not found"}, headers)
            case _:
                self.send(404, {"error": f"not served here: {self.path}"})

    def about_history(self, repository: str, asked_for: str, body: bytes) -> None:
        if asked_for == "super-squash":
            self.hub.commits[repository].clear()
            self.hub.committed(repository, json.loads(body)["message"])
            self.send(200, {})
            return
        about = {"id": "0" * 40, "authors": [{"user": "someone"}], "date": "2026-01-01T00:00:00.000Z", "message": ""}
        titles = [title for title, _ in reversed(self.hub.commits.get(repository, []))]
        self.send(200, [about | {"title": title} for title in titles])

    def create(self, asked: dict[str, Any]) -> None:
        repository = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{repository}"
        if repository in self.hub.repositories:
            self.send(409, {"error": "You already created this model repo", "url": url})
            return
        self.hub.repositories[repository] = {".gitattributes": b""}
        self.hub.committed(repository, "initial commit")
        if asked.get("visibility") == "private":
            self.hub.private.add(repository)
        self.send(200, {"url": url})

    def commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        files, title = dict(self.hub.repositories[repository]), ""
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "deletedFile" if value["path"] in files:
                    del files[value["path"]]
                case "header":
                    title = value["summary"]
                case _:
                    self.send(400, {"error": f"cannot do {line['key']} {value.get('path')}"})
                    return
        self.hub.repositories[repository] = files  # all at once, as the hub does
        self.hub.committed(repository, title)
        self.send(200, {"success": True, "commitUrl": f"{self.hub.url}/{repository}", "commitOid": "0" * 40})

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/octet-stream" if body is content else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
