"""As much of a W&B server as wandb 0.31 needs for a run, on loopback, with ways to fail.

    with WandbServer("hang") as server:
        subprocess.run(..., env=os.environ | server.environment())

What a server that works was sent, each by the run's id: `server.history`, the rows of its metrics, in order;
`server.configs`; `server.files`, by their names; and `server.artifacts`, their files by "artifact name/file name".
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

# never listens; never answers; breaks the connection; refuses the key; answers without what was asked for; begins a
# run and then never answers; begins a run and then takes no data
FAILURES = ("refuse", "hang", "reset", "401", "nonsense", "dies", "gone")
KEY = "0123456789" * 4


class WandbServer:
    """A server of its own port; `failure` is one of FAILURES, or None for one that works."""

    def __init__(self, failure: str | None = None) -> None:
        self.failure = failure
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.artifacts: dict[str, dict[str, bytes]] = {}
        self.artifact_names: list[tuple[str, str]] = []  # run and name; its place is its id
        self.begun = False
        self.released = threading.Event()  # of those that hang
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"wandb": self}))
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # wandb leaves without a word
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> WandbServer:
        if self.failure == "refuse":
            self.server.server_close()
        else:
            threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        if self.failure != "refuse":
            self.server.shutdown()
            self.server.server_close()

    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wandb: WandbServer

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        failure, upload = self.wandb.failure, self.path.endswith("/file_stream")
        if failure == "hang" or (failure == "dies" and self.wandb.begun):
            self.wandb.released.wait()
        if failure in ("hang", "reset") or (failure == "dies" and self.wandb.begun):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif failure == "401":
            self.answer({"errors": [{"message": "invalid api key"}]}, 401)
        elif failure == "gone" and upload:
            self.answer({}, 404)
        elif self.path == "/graphql" and failure != "nonsense":
            asked = json.loads(body)
            self.answer({"data": self.about(asked["operationName"], asked.get("variables") or {})})
        else:
            if upload and failure is None:
                text = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                rows = json.loads(text).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
                run = self.path.split("/")[-2]
                self.wandb.history.setdefault(run, []).extend(json.loads(row) for row in rows)
            elif self.command == "PUT":
                _, kind, run, name = map(unquote, self.path.split("/", 3))
                (self.wandb.files if kind == "files" else self.wandb.artifacts).setdefault(run, {})[name] = body
            self.answer({})

    do_GET = do_POST = do_PUT = handle_any

    def about(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL request; an empty one is enough for most."""
        if operation == "UpsertBucket":
            self.wandb.begun = True
            config = json.loads(given.get("config") or "{}")
            self.wandb.configs.setdefault(given["name"], {}).update({k: v["value"] for k, v in config.items()})
            project = {"id": "project", "name": given.get("project"), "entity": {"id": "entity", "name": "someone"}}
            bucket = {"id": "bucket", "name": given.get("name"), "displayName": given.get("displayName")}
            rest = {"description": "", "config": "{}", "sweepName": None, "historyLineCount": 0}
            return {"upsertBucket": {"bucket": {**bucket, **rest, "project": project}, "inserted": True}}
        if operation == "Viewer":
            viewer = {"id": "user", "entity": "someone", "username": "someone", "email": "", "flags": "{}"}
            return {"viewer": {**viewer, "teams": {"edges": []}}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": self.upload("files", given["run"], name)} for name in given["files"]]
            return {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": files}}
        return self.about_artifact(operation, given)

    def about_artifact(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        if operation == "CreateArtifact":
            asked, number = given["input"], len(self.wandb.artifact_names)
            self.wandb.artifact_names.append((asked["runName"], asked["artifactCollectionName"]))
            artifact = {"id": str(number), "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": artifact}}
        if operation in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            number = given.get("artifactID") or given["artifactManifestID"]
            file = {"id": "file", "uploadUrl": self.of_artifact(number, "manifest"), "uploadHeaders": []}
            return {operation[0].lower() + operation[1:]: {"artifactManifest": {"id": number, "file": file}}}
        if operation == "CreateArtifactFiles":
            nodes = [
                {
                    "storagePath": file["name"],
                    "uploadUrl": self.of_artifact(file["artifactID"], file["name"]),
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
                for file in given["input"]["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        if operation == "ArtifactType":  # whether there is one of its name already
            return {"project": None}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}
        return {}

    def of_artifact(self, number: str, name: str) -> str:
        run, artifact = self.wandb.artifact_names[int(number)]
        return self.upload("artifacts", run, f"{artifact}/{name}")

    def upload(self, kind: str, run: str, name: str) -> str:
        return f"{self.wandb.url}/{kind}/{run}/{quote(name)}"

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Not to stderr."""
