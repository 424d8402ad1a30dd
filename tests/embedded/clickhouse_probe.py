"""Run as a process: open an engine on the folder of argv[1] and say what ClickHouse itself does with each statement.

Reads JSON `[[access, sql], …]` from standard input, writes `[code or 0, …]`, where 0 means that it ran. The gate is not
asked: this is how the other fences are tried alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.embedded.clickhouse_engine import Access, Engine
from pipeline.embedded.clickhouse_errors import ServerError


def main() -> None:
    engine = Engine(Path(sys.argv[1]))
    answers: list[int | str] = []
    for access, sql in json.load(sys.stdin):
        session = engine.session(Access(access))
        try:
            answers.append(session.text(sql) if access == "read" else session.run(sql).rows_read * 0)
        except ServerError as error:
            answers.append(error.code)
        finally:
            session.close()
    engine.close()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
