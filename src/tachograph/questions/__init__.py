"""The questions that pages, commands and APIs ask, each as scans of the store."""

from tachograph.questions.arrivals import Arrival, Finding, arrivals, findings, first_since
from tachograph.questions.counting import DIMENSIONS, TIMES, usage, zone_of
from tachograph.questions.course import Course, Happening, course
from tachograph.questions.lookup import Found, call, calls_of, descendants, find, session, sessions, traces_of
from tachograph.questions.provenance import explain
from tachograph.questions.searching import search

__all__ = [
    "DIMENSIONS",
    "TIMES",
    "Arrival",
    "Course",
    "Finding",
    "Found",
    "Happening",
    "arrivals",
    "call",
    "calls_of",
    "course",
    "descendants",
    "explain",
    "find",
    "findings",
    "first_since",
    "search",
    "session",
    "sessions",
    "traces_of",
    "usage",
    "zone_of",
]
