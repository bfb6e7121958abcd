"""A memory for tests of what keeps something between two rounds."""

from __future__ import annotations


class Notes(dict[str, bytes]):
    """A memory that forgets nothing."""

    def put(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value

    def keys(self, prefix: str = "") -> list[str]:  # type: ignore[override]
        return sorted(key for key in self if key.startswith(prefix))
