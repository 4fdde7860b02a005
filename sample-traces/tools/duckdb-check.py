"""Compares Parquet exports, as DuckDB reads them, with what llmtrace itself says.

Usage: duckdb-check.py LLMTRACE MANUAL TRACE...
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

llmtrace, manual, *traces = sys.argv[1:]
llmtrace = str(Path(llmtrace).resolve())
checks = 0


def ask(*args):
    return json.loads(subprocess.check_output([llmtrace, *args, "--json"]))


def same(what, found, wanted):
    global checks
    checks += 1
    if found != wanted:
        sys.exit(f"duckdb-check: {what}: DuckDB says {found}, llmtrace says {wanted}")


def nanos(millis):
    """Nanoseconds, exactly: JSON has them as milliseconds."""
    return None if millis is None else round(millis * 1e6)


def check(trace, folder):
    sql = duckdb.connect()
    spans = f"'{folder}/op_spans.parquet'"
    rows = lambda query: sql.execute(query).fetchall()

    info = ask("info", trace)
    tables = {table["table"]: table["rows"] for table in info["tables"]}
    files = {"op spans": "op_spans", "graph spans": "graph_spans", "ubatches": "ubatches", "decodes": "decodes"}
    files |= {"threads": "threads", "losses": "losses"}
    files |= {"scheduler runs": "scheduler_runs", "splits": "splits", "copies": "copies"}
    files |= {"waits for backends": "waits", "sequence runs": "sequence_runs", "KV operations": "kv_operations"}
    files |= {"calls": "calls", "speculation": "speculations", "tokens": "token_ids"}
    files |= {"selections": "selections", "experts": "experts"}
    files |= {"thread states": "thread_states", "CPU frequencies": "cpu_frequencies"}
    files |= {"page faults": "page_faults", "block reads": "block_reads"}
    files |= {"process samples": "process_samples", "system samples": "system_samples"}
    for table, name in files.items():
        [(count,)] = rows(f"SELECT count(*) FROM '{folder}/{name}.parquet'")
        same(f"rows of {name}", count, tables.get(table, 0))
    graphs = {graph["id"]: (graph["tensors"], graph["nodes"]) for graph in info["graphs"]}
    counted = rows(f"SELECT graph, count(*), count_if(is_node) FROM '{folder}/tensors.parquet' GROUP BY ALL")
    same("tensors", {graph: (tensors, nodes) for graph, tensors, nodes in counted}, graphs)
    [(model, host)] = rows(f"SELECT model, host FROM '{folder}/recording.parquet'")
    same("model and host", [model, host], [", ".join(info["target"]["models"]), info["host"]["name"]])

    keys = {"op": "op", "layer": "coalesce(layer::VARCHAR, 'other')", "thread": "lane::VARCHAR"}
    keys["token"] = "token"
    for by, key in keys.items():
        stats = ask("stats", trace, "--by", by)
        count = "count(*)" if by == "thread" else "count(DISTINCT (graph_span, node))"
        sums = "sum(compute_ns)::BIGINT, sum(wait_ns)::BIGINT"
        found = {key: rest for key, *rest in rows(f"SELECT {key}, {count}, {sums} FROM {spans} GROUP BY ALL")}
        name = "token" if by == "token" else "key"
        wanted = {
            row[name]: [row["count"], nanos(row["time_ms"]), nanos(row["wait_ms"])] for row in stats["rows"]
        }
        same(f"by {by}", found, wanted)
    decode = ask("stats", trace, "--phase", "decode")
    [(count,)] = rows(f"SELECT sum(compute_ns)::BIGINT FROM {spans} WHERE phase = 'decode'")
    same("time of decode", count, nanos(decode["time_ms"]))
    dangling = rows(f"SELECT count(*) FROM {spans} ANTI JOIN '{folder}/tensors.parquet' t "
                    "ON t.graph = op_spans.graph AND t.tensor = op_spans.node")
    same("spans without a node", dangling, [(0,)])


def check_manual(folder):
    """Runs the queries of the manual where they are said to be run."""
    queries = re.findall(r"```sql\n(.*?)```", Path(manual).read_text(), re.S)
    if not queries:
        sys.exit(f"duckdb-check: no SQL in {manual}")
    sql = duckdb.connect()
    sql.execute(f"SET file_search_path = '{folder}'")
    for query in queries:
        if not sql.execute(query).fetchall():
            sys.exit(f"duckdb-check: a query of {manual} finds nothing:\n{query}")


with tempfile.TemporaryDirectory() as folder:
    for trace in traces:
        output = Path(folder) / Path(trace).stem
        subprocess.check_call(
            [llmtrace, "export", trace, "--format", "parquet", "-o", output], stdout=subprocess.DEVNULL
        )
        check(trace, output)
    check_manual(folder)
print(f"duckdb-check: {len(traces)} traces, {checks} comparisons, all the same")
