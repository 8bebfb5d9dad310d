"""`--users`, `--queries`, `--items` and `--all`: many requests at once into a parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from retrieval.errors import BadRequest
from serving.cli.show import show_json

if TYPE_CHECKING:
    from serving.answering.many import Key
    from serving.engine import Engine
    from serving.jobs.answer_file import AnsweredFile, AskMany

Out: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="A parquet file for the answers of --users, --queries, --items or --all.")
]
Users: TypeAlias = Annotated[
    Path | None, typer.Option("--users", help="A parquet file with a column user_id: answer all of them into --out.")
]
AllUsers: TypeAlias = Annotated[bool, typer.Option("--all", help="Answer every shopper of the release into --out.")]
Queries: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--queries", help="A parquet file with a column query, if wanted also user_id: answer all into --out."
    ),
]
Items: TypeAlias = Annotated[
    Path | None, typer.Option("--items", help="A parquet file with a column item_id: answer all of them into --out.")
]
AllItems: TypeAlias = Annotated[bool, typer.Option("--all", help="Answer every item of the release into --out.")]


def asks_many(file: Path | None, whole: bool, out: Path | None, option: str, alone: Mapping[str, object]) -> bool:
    """Whether many requests are asked for. Raises BadRequest where options do not go together; `alone` are those of one
    request, by name."""
    if file is None and not whole:
        if out is not None:
            raise BadRequest(f"--out is for many requests; give {option} FILE as well")
        return False
    if file is not None and whole:
        raise BadRequest(f"{option} and --all are two ways of saying who; give one of them")
    if out is None:
        raise BadRequest(f"{option if file else '--all'}: give --out FILE.parquet for the answers")
    given = [name for name, value in alone.items() if value]
    if given:
        raise BadRequest(f"{', '.join(given)}: of one request, not of many; leave out what is not for all")
    return True


def answer_file(engine: Engine, key: Key, ask: AskMany, file: Path | None, out: Path | None, *, as_json: bool) -> None:
    """Answers the requests of a file, or without one all of the release, into `out`, and says what was done."""
    from serving.jobs.answer_file import everything, requests_of, write_answers

    assert out is not None, "asks_many has looked"
    asked = everything(engine.state, key) if file is None else requests_of(file, key)
    done = write_answers(ask, asked, out, engine.release.id)
    if as_json:
        show_json(done.to_dict())
    else:
        print("\n".join(told(done)))


def told(done: AnsweredFile) -> list[str]:
    """What was done, in lines."""
    rate = done.answered / done.seconds if done.seconds else 0.0
    lines = [
        f"{done.answered:,} answered by release {done.release}, {rate:,.0f} a second; {done.hits:,} rows: {done.path}"
    ]
    return lines + [f"{count:,} of them: {code}" for code, count in (*done.fallbacks.items(), *done.degraded.items())]
