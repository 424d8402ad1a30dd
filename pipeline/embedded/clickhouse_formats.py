"""What the server must know of ClickHouse's output formats."""

from __future__ import annotations

from collections.abc import Mapping, Set

# chdb makes each chunk of a result a complete document, so only formats can be streamed whose documents, put one after
# another, are one document.
_STREAMABLE = frozenset(
    {
        *("Native", "RowBinary", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw", "CSV", "LineAsString"),
        *("JSONEachRow", "JSONLines", "NDJSON", "JSONStringsEachRow", "JSONCompactEachRow"),
        *("JSONCompactStringsEachRow", "RawBLOB"),
    }
)
# With these, rows of another kind come at the end.
_ENDS_OTHERWISE = frozenset({"totals", "extremes", "output_format_json_array_of_rows"})

_CONTENT_TYPES = {
    "csv": "text/csv; charset=UTF-8",
    "json": "application/json; charset=UTF-8",
    "tab": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "pretty": "text/plain; charset=UTF-8",
}


def streamable(form: str, words: Set[str], settings: Mapping[str, str]) -> bool:
    """`words`: the lower-case words of the statement."""
    return form in _STREAMABLE and not _ENDS_OTHERWISE & (words | settings.keys())


def content_type(form: str) -> str:
    lower = form.lower()
    return next((kind for start, kind in _CONTENT_TYPES.items() if lower.startswith(start)), "application/octet-stream")


def native_header(names_and_types: bytes) -> bytes:
    """A block of the Native format with no rows, from the head of RowBinaryWithNamesAndTypes.

    Both begin with the number of columns. There follow all names, then all types; in Native the number of rows, then
    name and type of each column. Numbers and lengths are LEB128.
    """
    count, at = _number(names_and_types, 0)
    texts: list[bytes] = []
    for _ in range(2 * count):
        length, begin = _number(names_and_types, at)
        texts.append(names_and_types[at : begin + length])
        at = begin + length
    columns = b"".join(name + kind for name, kind in zip(texts[:count], texts[count:], strict=True))
    return names_and_types[: _number(names_and_types, 0)[1]] + b"\x00" + columns


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
