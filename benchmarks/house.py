"""The size of the package: files, lines and habits of each room.

    python benchmarks/house.py
    python benchmarks/house.py --package OTHER/topdb_tf --names

A reader can hold so much and no more, so tests/test_structure.py sets limits to these
counts. They are read from the source; nothing of the package is imported.
"""

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "topdb_tf"
LONG = 65  # lines of a function, with its docstring


class Place(NamedTuple):
    """Something that is counted, and where it stands.

    Args:
        kind: Field of `Room` that counts it.
        file: Path from the package.
        line: Its first line.
        name: The function, or the key that is read.
    """

    kind: str
    file: Path
    line: int
    name: str


class Room(NamedTuple):
    """The counts of a room with the rooms in it.

    Args:
        name: The folder, or the file that stands beside the folders.
        files: Modules of the fullest of its folders, without `__init__`.
        lines: Of all its files.
        dict_functions: Functions that are annotated to return a `dict`.
        key_reads: Values that are read from something by a text, `scores["mean_ap"]`.
        long_functions: Functions of more than `LONG` lines.
    """

    name: str
    files: int
    lines: int
    dict_functions: int
    key_reads: int
    long_functions: int


def rooms_of(package: Path = PACKAGE) -> list[Room]:
    """Returns the counts of the rooms of a package, in the order of their names."""
    by_name: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*.py")):
        first = path.relative_to(package).parts[0]
        by_name.setdefault(first, []).append(path)
    return [_room(name, paths, package) for name, paths in by_name.items()]


def total_of(rooms: list[Room]) -> Room:
    """Returns the sums of all rooms; its files are those of the fullest folder."""
    sums = [sum(counts) for counts in list(zip(*rooms, strict=True))[2:]]
    return Room("all", max(room.files for room in rooms), *sums)


def largest_share(rooms: list[Room]) -> float:
    """Returns the share of the lines that the largest room has."""
    return max(room.lines for room in rooms) / total_of(rooms).lines


def places_in(path: Path, package: Path) -> Iterator[Place]:
    """Yields what is counted in a module."""
    file = path.relative_to(package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.returns and ast.unparse(node.returns).lower().startswith("dict"):
                yield Place("dict_functions", file, node.lineno, node.name)
            if node.end_lineno - node.lineno >= LONG:
                yield Place("long_functions", file, node.lineno, node.name)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key = node.slice
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield Place("key_reads", file, node.lineno, key.value)


def table_text(rooms: list[Room]) -> str:
    """Returns the counts as a table, a room a line, the largest first."""
    total = total_of(rooms)
    head = ("room", "files", "lines", "share", "-> dict", 'x["key"]', f"> {LONG} lines")
    table = [head]
    for room in [*sorted(rooms, key=lambda room: -room.lines), total]:
        share = f"{room.lines / total.lines:.1%}"
        table.append((room.name, room.files, f"{room.lines:,}", share, *room[3:]))
    widths = [
        max(len(str(cell)) for cell in column) for column in zip(*table, strict=True)
    ]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if column == 0 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )


def _room(name, paths, package):
    kinds = Counter(place.kind for path in paths for place in places_in(path, package))
    folders = Counter(path.parent for path in paths if path.stem != "__init__")
    return Room(
        name.removesuffix(".py"),
        max(folders.values(), default=0),
        sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths),
        kinds["dict_functions"],
        kinds["key_reads"],
        kinds["long_functions"],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, default=PACKAGE)
    parser.add_argument("--names", action="store_true", help="say where each stands")
    arguments = parser.parse_args()
    if arguments.names:
        for path in sorted(arguments.package.rglob("*.py")):
            for place in places_in(path, arguments.package):
                print(f"{place.file}:{place.line}: {place.kind}: {place.name}")
    print(table_text(rooms_of(arguments.package)))


if __name__ == "__main__":
    main()
