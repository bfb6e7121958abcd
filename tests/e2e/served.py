"""The real server as a process of its own, on ports of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Served:
    """`tachograph up` over a home; it can be stopped and started again at the same address."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self._environment = {**os.environ, **environment}
        self.web = self.otlp = ""
        self._web_port = self._otlp_port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait for its greeting."""
        doors = ["--web", self._web_port, "--otlp-http", self._otlp_port, "--otlp-grpc", "off"]
        words = [sys.executable, "-m", "tachograph", "up", "--home", str(self.home), "--follow", "off", *doors]
        log = (self.home / "server.log").open("a")
        with log:
            self._process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=log, text=True, env=self._environment
            )
        assert self._process.stdout is not None
        told = []
        for line in self._process.stdout:
            told.append(line)
            if line.startswith("Connect an agent"):
                break
        said = {words[0]: words[1] for words in (line.split() for line in told) if len(words) == 2}
        assert "pages" in said, f"the server did not start: {''.join(told)}{self.log()}"
        self.web, self.otlp = said["pages"], said["OTLP/HTTP"]
        self._web_port, self._otlp_port = self.web.rpartition(":")[2], self.otlp.rpartition(":")[2]

    def stop(self) -> int:
        """Stop it as Ctrl-C does; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.communicate()
        return self._process.returncode

    def log(self) -> str:
        """What it has written about itself."""
        return (self.home / "server.log").read_text("utf-8")
