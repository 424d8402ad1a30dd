"""The names the gate goes by. Each set says why; a test compares them with what the installed chdb knows."""

from __future__ import annotations

READS = frozenset({"select", "with", "from", "show", "describe", "desc", "exists", "explain"})

WRITES = frozenset(
    {
        *("insert", "create", "drop", "alter", "truncate", "optimize", "rename", "exchange", "delete", "update"),
        "check",
    }
)

REFUSED = frozenset(
    {
        *("set", "use", "begin", "commit", "rollback"),  # there are no sessions
        *("attach", "detach", "undrop", "backup", "restore", "move", "copy"),  # paths
        *("system", "kill", "grant", "revoke", "execute", "watch", "prepare", "deallocate"),
    }
)
"""Statements of ClickHouse that are answered by a refusal. Any other first word is a syntax error."""

FORBIDDEN_WORDS = frozenset({"infile", "outfile"})
"""The client half of chdb opens these files itself. As identifiers they can be quoted."""

FORBIDDEN_SEQUENCES = frozenset(
    {
        ("kill", "query"),
        ("kill", "mutation"),
        ("parallel", "with"),  # joins statements, of which only the first verb would be looked at
        ("into", "function"),  # INSERT INTO FUNCTION
        ("table", "function"),
        ("create", "temporary"),  # there are no sessions: it would be gone with the request
        ("replace", "temporary"),
        ("temporary", "table"),
        ("create", "function"),
        ("create", "dictionary"),
    }
)

FORBIDDEN_NAMES = frozenset(
    {
        # Functions that need no grant and no parenthesis (`* APPLY file`, `arrayMap(file, …)`): read a file, run a text
        # as a query, read our own Python objects, send rows to a service.
        *("file", "eval", "python", "executable", "catboostevaluate"),
        *("aiclassify", "aiembed", "aiextract", "aifilter", "aigenerate", "airedact", "aisimilarity", "aitranslate"),
        # A table's own disk can be any folder or any web server.
        "disk",
        # Settings that name files, or choose an engine where the text names none.
        *("format_schema", "format_schema_source", "output_format_schema", "format_template_row"),
        *("format_template_resultset", "input_format_record_errors_file_path", "rename_files_after_processing"),
        *("default_table_engine", "default_temporary_table_engine", "into_outfile_create_parent_directories"),
        "format_avro_schema_registry_url",
    }
)

FORBIDDEN_SETTINGS = FORBIDDEN_NAMES | frozenset(
    {
        "dialect",  # another parser than the one the gate knows
        *("profile", "readonly", "allow_ddl", "allow_introspection_functions", "compatibility", "log_comment"),
    }
)
"""Refused as URL parameters. Some are names of columns, so a text may use them; there they do no harm: a reader's
SETTINGS are refused by `readonly=1`, and the writer may write anyhow."""

_LAKES = ("deltalake", "hudi", "iceberg", "paimon")
_STORES = ("", "azure", "hdfs", "s3", "local")
_CLUSTERED = ("azureblobstorage", "file", "hdfs", "s3", "url", *(lake + store for lake in _LAKES for store in _STORES))

FORBIDDEN_CALLS = frozenset(
    {
        *_CLUSTERED,
        *(name + "cluster" for name in _CLUSTERED),
        *(
            "arrowflight",
            "arrowstream",
            "bigquery",
            "cluster",
            "clusterallreplicas",
            "cosn",
            "dictionary",
            "executable",
        ),
        *("filesystem", "gcs", "input", "jdbc", "loop", "mongodb", "mysql", "odbc", "oss", "postgresql", "sqlite"),
        *("prometheusquery", "prometheusqueryrange", "redis", "remote", "remotesecure", "ytsaurus", "eval", "python"),
        *("fuzzquery", "fuzzjson"),
    }
)
"""Table functions that reach files, the network or other programs."""

HARMLESS_TABLE_FUNCTIONS = frozenset(
    {
        *("sqlstandardvalues", "format", "generaterandom", "generateseries", "generate_series", "merge", "null"),
        *("mergetreeanalyzeindexes", "mergetreeanalyzeindexesuuid", "mergetreecodecblockcounts", "mergetreeindex"),
        *(
            "mergetreeprojection",
            "mergetreetextindex",
            "numbers",
            "numbers_mt",
            "primes",
            "values",
            "zeros",
            "zeros_mt",
        ),
        *("timeseriesdata", "timeseriesmetricfamilies", "timeseriesmetrics", "timeseriessamples"),
        *("timeseriesselector", "timeseriestags", "view", "viewexplain", "viewifpermitted"),
    }
)
"""Compute, or read tables that may be read anyhow. A table function of a new chdb must be put here or above."""

ENGINES = frozenset(
    {
        *("mergetree", "replacingmergetree", "summingmergetree", "aggregatingmergetree", "collapsingmergetree"),
        *("versionedcollapsingmergetree", "coalescingmergetree", "graphitemergetree"),
        *("memory", "null", "log", "tinylog", "stripelog", "set", "join", "buffer", "merge", "view", "atomic"),
    }
)

NOT_AN_ENGINE = frozenset({"from", "as", "in", "is", "not", "like", "ilike", "and", "or", "asc", "desc", "end", "then"})
"""What may follow a column that is called engine."""
