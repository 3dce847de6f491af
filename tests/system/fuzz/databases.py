"""Damage to databases of SQLite: values of any column, tables that are gone or something else."""

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from files import ANY
from values import scalars

_ENDLESS = (
    "CREATE VIEW {} AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS id, i AS path, i AS source, i AS size, i AS mtime_ns, i AS digest, i AS fields, "
    "i AS vector, i AS name FROM n"
)


def mutate_database(file: Path, rng: Random) -> tuple[str, str]:
    """Change a database as its own library can.

    Args:
        file: The database.
        rng: Draws the change.

    Returns:
        What was done, and what is expected.
    """
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        names = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        table = rng.choice([name for (name,) in db.execute(names)])
        if rng.random() < 0.25:
            what = _change_table(db, table, rng)
        else:
            what = _change_value(db, table, rng)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return f"{table}: {what}", ANY


def _change_table(db: sqlite3.Connection, table: str, rng: Random) -> str:
    changes = {
        "gone": [f"DROP TABLE {table}"],
        "without rows": [f"DELETE FROM {table}"],  # noqa: S608 -- of our own sample
        "half of its rows": [f"DELETE FROM {table} WHERE rowid % 2"],  # noqa: S608
        "under another name": [f"ALTER TABLE {table} RENAME TO other"],
        "a view without end": [f"DROP TABLE {table}", _ENDLESS.format(table)],
        "a column more": [f"ALTER TABLE {table} ADD COLUMN more"],
        "text in a text": ["PRAGMA writable_schema = ON", "UPDATE sqlite_master SET sql = 'x'"],
    }
    what = rng.choice(list(changes))
    try:
        for statement in changes[what]:
            db.execute(statement)
    except sqlite3.Error as error:
        return f"{what}: {error}"
    return what


def _change_value(db: sqlite3.Connection, table: str, rng: Random) -> str:
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    column = rng.choice(columns)
    value: Any = rng.choice(scalars("/nowhere"))
    if isinstance(value, list | dict) or (isinstance(value, int) and abs(value) >= 2**63):
        value = rng.choice([str(value).replace("'", '"'), b"\x00\x01", "[" * 100_000])
    one = f" WHERE {columns[0]} = (SELECT max({columns[0]}) FROM {table})"  # noqa: S608
    where = rng.choice(["", one])
    try:
        db.execute(f"UPDATE OR IGNORE {table} SET {column} = ?{where}", (value,))  # noqa: S608
    except (sqlite3.Error, OverflowError) as error:
        return f"{column}: {error}"
    return f"{column} = {value!r:.60}{' in one row' if where else ''}"
