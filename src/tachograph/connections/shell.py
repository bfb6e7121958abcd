"""A marked block in a shell's start-up file: for agents that take their settings from the environment only.

The block is a function with the agent's name that sets the variables for that agent alone, so that no other program of
the shell sends its telemetry here.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tachograph.config import Surroundings
from tachograph.connections.edits import Edit, backup_of
from tachograph.errors import ConfigError

_HEAD: Final = "# >>> tachograph: {} >>>"
_TAIL: Final = "# <<< tachograph: {} <<<"


@dataclass(frozen=True)
class BlockEdit:
    """An edit of a start-up file: the block of one agent; without variables, no block."""

    path: Path
    agent: str
    command: str
    variables: Mapping[str, str]

    @property
    def backup(self) -> Path:
        """See edits.Edit."""
        return backup_of(self.path, self.agent)

    def conflicts(self, text: str, before: str | None) -> list[str]:
        """See edits.Edit."""
        name = re.escape(self.command)
        own = re.compile(rf"[ \t]*(?:function[ \t]+{name}\b|{name}[ \t]*\(\)|alias[ \t]+{name}[= ])")
        start, end = self._place(text)
        lines = (text[:start] + text[end:]).splitlines()
        return [f"{self.command} is defined already: {line.strip()}" for line in lines if own.match(line)]

    def applied(self, text: str, before: str | None) -> str:
        """See edits.Edit."""
        if not self.variables:
            return self.undone(text, before)
        eol = "\r\n" if "\r\n" in text else "\n"
        block = self._block().replace("\n", eol)
        start, end = self._place(text)
        if start < end:
            return text[:start] + block + text[end:]
        return text + ("" if not text or text.endswith("\n") else eol) + block

    def undone(self, text: str, before: str | None) -> str:
        """See edits.Edit."""
        start, end = self._place(text)
        return text[:start] + text[end:]

    def is_there(self, text: str) -> bool:
        """See edits.Edit."""
        start, end = self._place(text)
        return start < end

    def is_untouched(self, text: str, before: str) -> bool:
        """See edits.Edit."""
        rest = self.undone(text, None)
        return rest == before or rest.removesuffix("\n").removesuffix("\r") == before

    def _block(self) -> str:
        head, tail = _HEAD.format(self.agent), _TAIL.format(self.agent)
        pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.variables.items())
        if self.path.suffix == ".fish":
            lines = [f"function {self.command}", f"    env {pairs} {self.command} $argv", "end"]
        else:
            lines = [f"function {self.command} {{", f'    {pairs} command {self.command} "$@"', "}"]
        return "\n".join([head, *lines, tail, ""])

    def _place(self, text: str) -> tuple[int, int]:
        """From where to where the block stands, its last line end included; (n, n) where it does not."""
        head, tail = (re.escape(mark.format(self.agent)) for mark in (_HEAD, _TAIL))
        starts = [match.start() for match in re.finditer(rf"(?m)^{head}[ \t]*\r?$", text)]
        ends = [match.end() for match in re.finditer(rf"(?m)^{tail}[ \t]*\r?(?:\n|\Z)", text)]
        if len(starts) != len(ends) or len(starts) > 1 or (starts and starts[0] > ends[0]):
            raise ConfigError(
                f"{self.path}: the lines that mark the block of {self.agent} do not belong together",
                "take the block out by hand; the file was not changed",
            )
        return (starts[0], ends[0]) if starts else (len(text), len(text))


def profiles(where: Surroundings) -> list[Path]:
    """The start-up files of the shells that are used here: those that are there, and that of the login shell."""
    variables = where.environment
    config = Path(variables.get("XDG_CONFIG_HOME") or where.user_home / ".config")
    bash = ".bash_profile" if sys.platform == "darwin" else ".bashrc"
    known = {
        "bash": where.user_home / bash,
        "zsh": Path(variables.get("ZDOTDIR") or where.user_home) / ".zshrc",
        "fish": config / "fish" / "config.fish",
    }
    login = Path(variables.get("SHELL") or "bash").name
    if sys.platform == "win32" and "SHELL" not in variables:
        return []
    return [path for shell, path in known.items() if path.is_file() or shell == login]


def blocks(where: Surroundings, agent: str, command: str, variables: Mapping[str, str]) -> list[Edit]:
    """The edits that give one agent its variables in every shell used here."""
    return [BlockEdit(path, agent, command, variables) for path in profiles(where)]
