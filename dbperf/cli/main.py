"""`dbperf`: finds the command, runs it, and turns errors into one line, a hint and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from dbperf import __version__
from dbperf.cli.commands import COMMANDS
from dbperf.cli.configured import OWN_WAY, configure
from dbperf.cli.examples import fit
from dbperf.cli.options import terminal_width
from dbperf.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, DbperfError, Interrupted, UsageError, did_you_mean


@contextmanager
def _ending_well() -> Iterator[None]:
    """Ctrl-C is told in one line; a reader of our output (head, less) that has gone is not an error. Typer would exit
    without a word, or with 1, which says that a service level was missed."""
    try:
        yield
    except BrokenPipeError:
        # Python would complain when flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_OK) from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted") from None


def command_named(name: str) -> Any:
    """A command of `dbperf --help`, made anew: a command keeps the help option of the first context it was used in."""
    command = typer.main.get_command(import_module(COMMANDS[name].module).app)
    command.name = name
    if name not in OWN_WAY:
        configure(command)
    return command


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is called: `dbperf --help` imports none of them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        if cmd_name not in COMMANDS:
            return None
        command = command_named(cmd_name)
        if (width := terminal_width()) is not None:
            fit(command, width)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(f"there is no command {args[0]!r}", hint=did_you_mean(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs the command; what typer says about options that do not fit reads like dbperf's own errors."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except typer.Abort:
            raise Interrupted("interrupted") from None
        except TyperException as e:
            context = getattr(e, "ctx", None)
            if context is not None and not context.args and str(e) == context.get_help():
                typer.echo(str(e), err=True)  # a group without a command shows its help
                sys.exit(EXIT_USAGE)
            raise _usage_error(e, context) from None
        sys.exit(code if isinstance(code, int) else EXIT_OK)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _ending_well():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _ending_well():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    help="Finds what is slow in an HTTP API on PostgreSQL, why, what would fix it, and whether it did.",
    epilog="Exit codes: 0 fine, 1 regression or service level missed, 2 usage, 3 environment or data, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"dbperf {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Holds the options that come before a command."""


def _usage_error(error: TyperException, context: Any) -> UsageError:
    """One line and a hint from typer's error, which it would show below three lines of usage."""
    path = context.command_path if context is not None else "dbperf"
    near = getattr(error, "possibilities", None)
    option = getattr(error, "option_name", None)
    if option and str(error) == f"No such option: {option}":
        near = [n for n in near or () if n.startswith("-")]
        hint = f"did you mean {' or '.join(sorted(near))}?" if near else f"{path} --help lists its options"
        return UsageError(f"{path} has no option {option}", hint=hint)
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    line = " ".join(said.replace("Value error, ", "").split()).rstrip(".")
    return UsageError(line[:1].lower() + line[1:], hint=f"{path} --help shows what fits")


def fail(error: DbperfError) -> NoReturn:
    """Prints an error and its hint to stderr, wrapped at words where that is a terminal, and exits."""
    _tell(f"dbperf: {error.message}", "  ")
    if error.hint:
        _tell(f"  hint: {error.hint}", " " * 8)
    sys.exit(error.exit_code)


def _tell(line: str, indent: str) -> None:
    from textwrap import fill

    width = terminal_width(sys.stderr)
    # A long path or statement stays whole, so that it can be copied.
    typer.echo(
        fill(line, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        if width
        else line,
        err=True,
    )


def main() -> None:
    """The console script."""
    try:
        app(prog_name="dbperf")
    except DbperfError as e:
        fail(e)
    except KeyboardInterrupt:
        typer.echo("dbperf: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
