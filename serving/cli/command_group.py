"""How every command ends (one line and an exit code for an error), and the commands that other packages add."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import warnings
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from retrieval.errors import MissingDependency, ShortlistError
from retrieval.extras import missing_dependency
from serving.exit_codes import OUR_FAULT, exit_code_of, one_line

ENTRY_POINTS = "shortlist.commands"
OUT_OF_GPU = "OutOfMemoryError"  # the name of torch's error, which is not imported for it
USAGE: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


class ShortlistGroup(TyperGroup):
    """The root command: its own commands and those of the entry-point group `shortlist.commands`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, our own first."""
        own = super().list_commands(ctx)
        return [*own, *sorted(name for name in added() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name; one of another package is loaded now."""
        own = super().get_command(ctx, cmd_name)
        return loaded(added()[cmd_name]) if own is None and cmd_name in added() else own

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; an error becomes one line on stderr and an exit code."""
        debug = bool(ctx.params.get("debug"))
        quiet(debug)
        print_anything()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BaseException as error:
            ended_by(error, debug)
        return result


def added() -> dict[str, EntryPoint]:
    """The commands of other packages, by name."""
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def loaded(entry: EntryPoint) -> Any:
    """The command of an entry point: a Typer application or a function. Raises MissingDependency, by name."""
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise MissingDependency(
            f"command {entry.name} ({entry.value}) cannot be loaded: {error}; reinstall it"
        ) from error
    if not isinstance(found, typer.Typer):
        alone = typer.Typer()
        alone.command(entry.name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = entry.name
    return command


def quiet(debug: bool) -> None:
    """Silence the notes and warnings of libraries, except with --debug."""
    if debug:
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")


def print_anything() -> None:
    """Print characters that the terminal's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def ended_by(error: BaseException, debug: bool) -> NoReturn:
    """End the command after an error. Raises typer.Exit, or what typer itself reports."""
    if isinstance(error, (typer.Exit, typer.Abort, SystemExit, USAGE)):
        raise error
    if isinstance(error, BrokenPipeError):
        silence_stdout()
        raise typer.Exit(OUR_FAULT) from error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:  # no file: a stream
        silence_stdout()
        complain(f"error: stdout cannot be written: {error.strerror}; free space there, or redirect the output")
        raise typer.Exit(OUR_FAULT) from error
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        raise typer.Exit(exit_code_of(error)) from error
    if debug:
        traceback.print_exception(error)
    if isinstance(error, ModuleNotFoundError):
        error = missing_dependency(error, "this command") or error
    if isinstance(error, ShortlistError):
        complain(f"error: {one_line(error)}")
        raise typer.Exit(exit_code_of(error)) from error
    if (where := full_memory(error)) is not None:
        complain(f"error: {where} is full ({one_line(error)}); stop other programs that use it, then run this again")
        raise typer.Exit(OUR_FAULT) from error
    more = "" if debug else "; for the traceback run: shortlist --debug COMMAND ..."
    complain(f"error: internal error, {type(error).__name__}: {one_line(error)}{more}")
    raise typer.Exit(exit_code_of(error)) from error


def full_memory(error: BaseException) -> str | None:
    """Which memory an error reports as full, None for other errors; torch and FAISS are recognised by their words."""
    message = str(error).lower()
    if type(error).__name__ == OUT_OF_GPU or (isinstance(error, RuntimeError) and "out of memory" in message):
        return "the GPU"
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in message
    refused |= isinstance(error, OSError) and error.errno == errno.ENOMEM
    return "memory" if refused or isinstance(error, MemoryError) else None


def complain(line: str) -> None:
    """Print a line on stderr, if it is still open."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        return


def silence_stdout() -> None:
    """Keep the interpreter from reporting a reader that has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
