"""Tables that are larger than memory, read in chunks and written in chunks: JSONL, packed JSONL and Parquet."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from steelyard.json_lines import json_object
from steelyard.types import SteelyardError

Form = Literal["jsonl", "jsonl.gz", "parquet"]
Row = dict[str, Any]


class Chunk(NamedTuple):
    """Rows that follow each other in a file.

    Attributes:
        rows: how many rows there are before and with this chunk.
        numbers: the line (of Parquet: the row, from 1) of each row.
        data: lines as bytes, or a record batch.
    """

    rows: int
    numbers: Sequence[int]
    data: Any

    @property
    def extent(self) -> int:
        """How much of the file this is: bytes, of Parquet rows (see `extent_of`)."""
        return sum(map(len, self.data)) if isinstance(self.data, list) else len(self.numbers)


def form_of(path: Path) -> Form:
    """The form that a file's name says.

    Raises:
        SteelyardError: for another ending.
    """
    forms: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "jsonl.gz", ".parquet": "parquet"}
    found = next((form for ending, form in forms.items() if path.name.endswith(ending)), None)
    if found is None:
        raise SteelyardError(f"{path} ends in none of .jsonl, .jsonl.gz and .parquet; name the file by its form")
    return found


def chunks(path: Path, size: int, *, group: str | None = None) -> Iterator[Chunk]:
    """The file's rows, `size` at a time, in their order, never all of them in memory.

    Args:
        path: of the file.
        size: rows of a chunk.
        group: a field; rows that follow each other with one value of it stay in one chunk, which may then be longer.

    Raises:
        SteelyardError: for a file that cannot be read, or a group whose rows do not follow each other.
    """
    form = form_of(path)
    if not path.is_file():
        raise SteelyardError(f"there is no file {path}; give a JSONL, JSONL.gz or Parquet file")
    pieces = _record_batches(path, size) if form == "parquet" else _line_blocks(path, size)
    return pieces if group is None else _whole_groups(pieces, path, group)


def extent_of(path: Path) -> int | None:
    """How much there is to read, in `Chunk.extent`; None where the file does not say (packed lines)."""
    form = form_of(path)
    if form == "parquet":
        import pyarrow.parquet

        return int(pyarrow.parquet.read_metadata(path).num_rows)
    return path.stat().st_size if form == "jsonl" else None


def _line_blocks(path: Path, size: int) -> Iterator[Chunk]:
    lines: list[bytes] = []
    numbers: list[int] = []
    rows = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                lines.append(line)
                numbers.append(number)
                if len(lines) == size:
                    rows += size
                    yield Chunk(rows, numbers, lines)
                    lines, numbers = [], []
    except (EOFError, OSError, zlib.error) as error:
        raise SteelyardError(
            f"{path} cannot be read ({error}); is it cut off, or not packed as its name says?"
        ) from None
    if lines:
        yield Chunk(rows + len(lines), numbers, lines)


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _record_batches(path: Path, size: int) -> Iterator[Chunk]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        rows = 0
        for batch in file.iter_batches(batch_size=size):
            numbers = range(rows + 1, rows + 1 + batch.num_rows)
            rows += batch.num_rows
            yield Chunk(rows, numbers, batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise SteelyardError(f"{path} is no Parquet file that can be read ({error})") from None


def _whole_groups(pieces: Iterator[Chunk], path: Path, name: str) -> Iterator[Chunk]:
    """Chunks moved so that they end where a group ends."""
    seen: set[int] = set()
    held: Chunk | None = None
    for piece in pieces:
        joined = piece if held is None else _joined(held, piece)
        keys = _keys(joined, path, name)
        cut = next((i for i in range(len(keys) - 1, 0, -1) if keys[i] != keys[i - 1]), 0)
        if cut == 0:
            held = joined
            continue
        done, held = _split(joined, cut)
        _check_new(seen, keys[:cut], done, path, name)
        yield done
    if held is not None:
        _check_new(seen, _keys(held, path, name), held, path, name)
        yield held


def _keys(chunk: Chunk, path: Path, name: str) -> list[str]:
    """The group of every row, as a text."""
    keys = []
    for row, number in zip(rows_of(chunk, path), chunk.numbers, strict=True):
        if name not in row:
            raise SteelyardError(
                f"{where(path, number)}: there is no field {name!r} to group by; it has {', '.join(row)}"
            )
        keys.append(group_key(row[name]))
    return keys


def group_key(value: Any) -> str:
    """A value of a group's field as a text: equal values, equal texts."""
    return json.dumps(value, sort_keys=True, default=str)


def _check_new(seen: set[int], keys: Sequence[str], chunk: Chunk, path: Path, name: str) -> None:
    for i, key in enumerate(keys):
        if i and key == keys[i - 1]:
            continue
        if hash(key) in seen:
            place = where(path, chunk.numbers[i])
            raise SteelyardError(f"{place}: the group {name}={key:.60} stood above already; sort the rows by {name!r}")
        seen.add(hash(key))


def _joined(first: Chunk, second: Chunk) -> Chunk:
    numbers = [*first.numbers, *second.numbers]
    if isinstance(first.data, list):
        return Chunk(second.rows, numbers, first.data + second.data)
    import pyarrow

    return Chunk(second.rows, numbers, pyarrow.concat_batches([first.data, second.data]))


def _split(chunk: Chunk, cut: int) -> tuple[Chunk, Chunk]:
    """The first `cut` rows and the rest."""
    rest = len(chunk.numbers) - cut
    first = Chunk(chunk.rows - rest, chunk.numbers[:cut], chunk.data[:cut])
    return first, Chunk(chunk.rows, chunk.numbers[cut:], chunk.data[cut:])


def check_sum(chunk: Chunk) -> int:
    """A number that tells a chunk from a changed one."""
    if not isinstance(chunk.data, list):
        return zlib.crc32(chunk.data.serialize())
    return zlib.crc32(b"\n".join(line.rstrip(b"\r\n") for line in chunk.data))


def where(path: Path, number: int) -> str:
    """A row's place, as an error names it."""
    return f"{path}, {'row' if path.name.endswith('.parquet') else 'line'} {number}"


def rows_of(chunk: Chunk, path: Path) -> list[Row]:
    """The rows as dictionaries.

    Raises:
        SteelyardError: naming file and line, for what is no JSON object.
    """
    if not isinstance(chunk.data, list):
        rows: list[Row] = chunk.data.to_pylist()
        return rows
    numbered = zip(chunk.data, chunk.numbers, strict=True)
    return [json_object(line.removeprefix(codecs.BOM_UTF8), where(path, number)) for line, number in numbered]


def packed(chunk: Chunk, rows: list[Row], added: dict[str, list[Any]], form: Form, path: Path) -> bytes:
    """The rows with the added columns as bytes that can stand behind those of other chunks.

    JSON lines, a gzip member of them, or a stream of record batches (see `write_parquet`).

    Raises:
        SteelyardError: naming file and row, for a value that JSON does not have.
    """
    if form == "parquet":
        return _stream(chunk, rows, added)
    lines = []
    for i, row in enumerate(rows):
        try:
            lines.append(_line(row | {name: column[i] for name, column in added.items()}))
        except TypeError as error:
            raise SteelyardError(f"{where(path, chunk.numbers[i])}: {error}; write a Parquet file instead") from None
    text = b"\n".join([*lines, b""])
    return gzip.compress(text, 6, mtime=0) if form == "jsonl.gz" else text


def _line(row: Row) -> bytes:
    """A row as JSON: letters as they are, but half a surrogate pair, which UTF-8 does not have, as `\\ud800`."""
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(row).encode()


def _stream(chunk: Chunk, rows: list[Row], added: dict[str, list[Any]]) -> bytes:
    import pyarrow

    if isinstance(chunk.data, list):
        names = dict.fromkeys(name for row in rows for name in row)
        try:
            table = pyarrow.table({name: pyarrow.array([row.get(name) for row in rows]) for name in names})
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise SteelyardError(f"these rows have no Parquet form ({error}); write .jsonl instead") from None
    else:
        table = pyarrow.Table.from_batches([chunk.data])
    for name, column in added.items():
        kind = pyarrow.string() if column and isinstance(column[0], str) else pyarrow.float32()
        table = table.append_column(name, pyarrow.array(column, kind))
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def write_parquet(streams: Path, starts: Sequence[int], target: Path) -> None:
    """Make one Parquet file of the streams that stand behind each other in a file, one of them in memory at a time.

    Args:
        streams: the file; starts: where each stream begins in it, in bytes.
        target: the file to write.

    Raises:
        SteelyardError: for a column that has different kinds of values in different chunks.
    """
    import pyarrow
    import pyarrow.parquet

    with pyarrow.memory_map(str(streams)) as file:
        schemas = [_at(file, start).schema for start in starts]
        try:
            schema = pyarrow.unify_schemas(dict.fromkeys(schemas), promote_options="permissive")
            with pyarrow.parquet.ParquetWriter(target, schema) as writer:
                for start in starts:
                    writer.write_table(_fitted(_at(file, start).read_all(), schema))
        except pyarrow.ArrowException as error:
            raise SteelyardError(f"the rows do not fit one Parquet table ({error}); write .jsonl instead") from None


def _at(file: Any, start: int) -> Any:
    import pyarrow

    file.seek(start)
    return pyarrow.ipc.open_stream(file)


def _fitted(table: Any, schema: Any) -> Any:
    import pyarrow

    have = set(table.column_names)
    columns = [table[f.name].cast(f.type) if f.name in have else pyarrow.nulls(len(table), f.type) for f in schema]
    return pyarrow.table(columns, schema=schema)
