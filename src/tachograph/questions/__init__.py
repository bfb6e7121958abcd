"""The questions that pages, commands and APIs ask, each as scans of the store."""

from tachograph.questions.counting import DIMENSIONS, TIMES, usage, zone_of
from tachograph.questions.lookup import Found, call, calls_of, find, session, sessions, traces_of
from tachograph.questions.searching import search

__all__ = [
    "DIMENSIONS",
    "TIMES",
    "Found",
    "call",
    "calls_of",
    "find",
    "search",
    "session",
    "sessions",
    "traces_of",
    "usage",
    "zone_of",
]
