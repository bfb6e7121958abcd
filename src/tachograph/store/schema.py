"""The tables that everything is kept in: one description for every engine, read by all of them.

Types: `text`, `int` (64 bit), `float`, `bool`, `json` (text that holds JSON), `blob` (bytes). Text is never NULL
("" = none); the other types are NULL where unknown. Columns ending in `_ns` are nanoseconds since 1970 (UTC). Tokens in
spans and events are inclusive, as the GenAI conventions count; in calls they are disjoint.
"""

from __future__ import annotations

from typing import Final, NamedTuple

VERSION: Final = 2


class Column(NamedTuple):
    """One column: its name, its abstract type and, for people and docs, what it holds."""

    name: str
    type: str
    what: str = ""


def _columns(text: str) -> tuple[Column, ...]:
    """Read `name type what...` lines."""
    parts = (line.strip().split(None, 2) for line in text.splitlines() if line.strip())
    return tuple(Column(p[0], p[1], p[2] if len(p) > 2 else "") for p in parts)


# What a record means (model.Meaning), the same columns in spans and events.
_MEANING = """
dialect        text  the dialect that understood it
role           text  session, prompt, turn, agent, model_call, tool_run, or "" for an inner step
is_noise       bool  an agent's own internals: folded in views
session_id     text  as the record says; see trace_sessions for records that do not say
prompt_id      text
parent_session_id text  the session that this session comes from
lineage        text  how it does: subagent, fork or resume
parent_tool_call_id text  the tool run of the parent session that started it
agent          text
subagent       text
user           text
team           text
project        text
channel        text
repository     text
branch         text
host           text
tenant         text
environment    text
operation      text
provider       text
request_model  text
response_model text
response_id    text
request_id     text
message_id     text
input_tokens   int   cache included
cache_read_tokens  int
cache_write_tokens int
output_tokens  int   reasoning included
reasoning_tokens int
is_call        bool  reports a model call to the ledger
is_rollup      bool  repeats the usage of calls below it
finish_reason  text
ttft_ns        int
tool_name      text
tool_call_id   text
arguments_bytes int  of a tool run: as its source says, or the length of the text where that is more
result_bytes   int
is_error       bool
error_type     text
error_message  text
http_status    int
"""

TABLES: Final[dict[str, tuple[Column, ...]]] = {
    "spans": _columns(
        """
        seq            int   the commit that brought it
        trace_id       text  lower-case hex
        span_id        text
        parent_id      text
        name           text
        kind           int   OTLP SpanKind
        start_ns       int
        end_ns         int
        duration_ns    int   end - start, at least 0
        status_code    int   0 unset, 1 ok, 2 error
        status_message text
        flags          int
        trace_state    text
        source_id      text  into sources
        """
        + _MEANING
        + """
        attributes     json  what no other column holds, types kept
        events         json  [{time_ns, name, attributes, dropped}]
        links          json  [{trace_id, span_id, trace_state, attributes, dropped, flags}]
        contents       json  [{slot, key, list, hashes}]: texts kept in contents
        dropped_attributes int
        dropped_events int
        dropped_links  int
        """
    ),
    "events": _columns(
        """
        seq            int
        event_id       text  hash of the record: the same record is the same event
        time_ns        int
        observed_ns    int
        duration_ns    int   where the source says it: most events come at the end of what they tell
        name           text
        origin         text  log, hook or transcript
        trace_id       text
        span_id        text
        severity       int
        severity_text  text
        flags          int
        source_id      text
        """
        + _MEANING
        + """
        body           json
        attributes     json
        contents       json
        dropped_attributes int
        """
    ),
    "sources": _columns(
        """
        source_id      text  hash of the rest
        service        text  service.name
        service_version text
        resource       json
        resource_schema_url text
        resource_dropped int
        scope_name     text
        scope_version  text
        scope_attributes json
        scope_schema_url text
        scope_dropped  int
        """
    ),
    "series": _columns(
        """
        series_id      text  hash of source, name, unit, type, temporality, monotonicity and attributes
        name           text
        unit           text
        description    text
        type           text  gauge, sum, histogram, exponential_histogram, summary
        temporality    int   0 none, 1 delta, 2 cumulative
        is_monotonic   bool
        source_id      text
        session_id     text
        model          text
        attributes     json
        metadata       json
        """
    ),
    "samples": _columns(
        """
        seq            int
        series_id      text
        start_ns       int
        time_ns        int
        value          float gauge, sum
        value_int      int   the same where it came as an integer
        count          int
        sum            float
        min            float
        max            float
        buckets        json
        exemplars      json
        flags          int
        """
    ),
    "contents": _columns(
        """
        hash           text  of the text
        seq            int   the commit that first brought it
        time_ns        int   when that was
        bytes          int   length of the text in UTF-8
        text           text
        """
    ),
    "reports": _columns(
        """
        seq            int
        report_id      text
        origin         text  span, log, hook, transcript or metric
        trace_id       text
        span_id        text
        session_id     text
        report         json  model.Report
        is_demo        bool
        """
    ),
    "report_keys": _columns(
        """
        key            int   hash of one identity of a model call (ledger.keys)
        report_id      text
        report_key     int   hash of report_id: scanned five times as fast
        seq            int   as in reports
        """
    ),
    "call_reports": _columns(
        """
        report_key     int   hash of the id of one of its reports
        call_id        text
        seq            int   as in calls
        """
    ),
    "calls": _columns(
        """
        seq            int   the commit of its newest report
        changed_seq    int   the commit that made another call of the same reports, NULL = none did
        call_id        text
        session_id     text  "" where no source names one and no trace is known
        trace_id       text  "" where no span reported it
        span_id        text
        prompt_id      text
        start_ns       int
        end_ns         int
        duration_ns    int
        agent          text
        subagent       text
        user           text
        team           text
        project        text
        channel        text
        repository     text
        branch         text
        host           text
        tenant         text
        environment    text
        operation      text
        provider       text
        model          text  served model, else the requested one
        request_model  text
        response_model text
        response_id    text
        request_id     text
        input_uncached_tokens int
        cache_read_tokens     int
        cache_write_tokens    int
        cache_write_1h_tokens int
        input_tokens          int  cache included
        output_tokens         int  reasoning included
        reasoning_tokens      int
        usage_status   text  reported, partial or unknown
        is_cut_short   bool  its session may have more calls, which its source is known to lose
        status         text  ok, failed or aborted
        http_status    int
        error_type     text
        error_message  text
        finish_reason  text
        is_streaming   bool
        ttft_ns        int
        attempt        int
        retry_of       text
        cost_nanousd   int   NULL = unpriced
        cost_kind      text  billed, source_estimate, computed or "" (unpriced)
        is_notional    bool
        price_source   text
        price_note     text
        reports        json  report ids
        provenance     json  field -> report id
        is_demo        bool
        """
    ),
    "trace_sessions": _columns(
        """
        trace_id       text
        session_id     text  of the earliest record that names one, else trace:<trace id>
        time_ns        int   of that record; NULL where none names a session
        trace_key      int   hash of trace_id
        """
    ),
    "trace_parts": _columns(
        """
        trace_key      int   hash of trace_id
        first_seq      int   the commits of one settlement that brought records of the trace
        last_seq       int
        """
    ),
    "sessions": _columns(
        """
        session_id     text  the source's own id, or trace:<trace id> where a trace names no session
        agent          text
        title          text  the first words of the first prompt, "" where content is not kept
        parent_session_id text  the session that it comes from, "" = none
        lineage        text  how it does: subagent, fork or resume
        parent_tool_call_id text  the tool run of the parent session that started it
        user           text
        team           text
        project        text
        channel        text
        repository     text
        branch         text
        host           text
        environment    text
        models         json  distinct models of its calls
        start_ns       int
        end_ns         int
        calls          int   that went well
        failed_calls   int
        partial_calls  int   went well, but tokens or further calls are not fully known
        unpriced_calls int
        input_tokens   int
        cache_read_tokens  int
        cache_write_tokens int
        output_tokens  int
        reasoning_tokens int
        cost_nanousd   int
        prompts        int
        tool_runs      int
        tool_errors    int
        traces         int
        spans          int
        events         int
        is_demo        bool
        """
    ),
    "session_states": _columns(
        """
        session_id     text
        state          json  the counts that a row of sessions is made of (sessions.State)
        """
    ),
    "session_facts": _columns(
        """
        seq            int
        session_id     text
        origin         text  span, log, hook or transcript
        fact           int   hash of session, kind (prompt) and id
        """
    ),
    "tool_runs": _columns(
        """
        seq            int   the commit of its newest telling
        run_id         text
        run_key        int   the same as a number
        session_id     text
        trace_id       text  "" where no record of it lies in a trace
        span_id        text
        agent          text
        subagent       text
        project        text  this and the next three: of its session
        channel        text
        user           text
        team           text
        tool_name      text
        tool_call_id   text  "" where no source tells one
        start_ns       int
        end_ns         int
        duration_ns    int   of the run alone where a source tells that, else with the wait for a permission
        is_error       bool
        error_type     text
        error_message  text
        arguments_bytes int
        result_bytes   int
        origins        json  who told of it: span, log, hook, transcript
        is_demo        bool
        """
    ),
    "tool_tellings": _columns(
        """
        seq            int
        telling        int   hash of session and record
        run_key        int   the run that it tells of
        pair           int   hash of session and tool
        session_id     text
        origin         text
        trace_id       text
        span_id        text
        agent          text
        subagent       text
        tool_name      text
        tool_call_id   text
        start_ns       int
        end_ns         int
        duration_ns    int
        is_error       bool
        error_type     text
        error_message  text
        arguments_bytes int
        result_bytes   int
        is_demo        bool
        """
    ),
    "commits": _columns(
        """
        seq            int
        time_ns        int   when it was committed
        spans          int
        events         int
        points         int
        is_demo        bool
        """
    ),
    "landed": _columns(
        """
        seq            int
        time_ns        int
        is_set_aside   bool  no table can hold it: kept here, and not tried again
        data           blob  MessagePack of small commits that are not yet sorted into the tables
        """
    ),
    "digests": _columns(
        """
        seq            int
        digest         text  of the bytes of one request or file piece: a re-send is not stored twice
        """
    ),
    "positions": _columns(
        """
        path           text
        position       text
        seq            int
        """
    ),
    "sealed": _columns(
        """
        name           text  the table
        day            text  UTC day of the commits, as 2026-11-21
        first_seq      int
        last_seq       int
        rows           int
        bytes          int
        path           text  relative to the data folder
        """
    ),
    "meta": _columns(
        """
        key            text  schema_version, settled_seq, ...
        value          text
        """
    ),
}
