"""Addresses whose last part is an id that somebody else chose: any text, slashes and line ends included."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor


class TextConvertor(Convertor[str]):
    """What `{name:path}` takes, and line ends too."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        """The text itself."""
        return value

    def to_string(self, value: str) -> str:
        """The text itself."""
        return value


def register() -> None:
    """Make `{name:text}` known to routes."""
    register_url_convertor("text", TextConvertor())
