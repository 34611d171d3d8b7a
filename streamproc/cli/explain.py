"""`streamproc explain MODULE:APP`."""

from __future__ import annotations

import msgspec
import rich_click as click

from streamproc.cli.app_import import load_app
from streamproc.cli.failing import debug_option, target_argument
from streamproc.explain import as_mermaid, as_text, explained


@click.command(epilog="Example: streamproc explain streamproc.apps.trending:app")
@target_argument
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--mermaid", is_flag=True, help="As a Mermaid flowchart, for Markdown pages.")
@debug_option
def command(target: str, *, as_json: bool, mermaid: bool) -> None:
    """Show what an app does: stages, topics, stores, and what holds under any pace and crash.

    Nothing is read or made: no log is needed. The numbers of partitions are those of the sources.
    """
    if as_json and mermaid:
        raise click.UsageError("--json and --mermaid are two answers: ask for one")
    app = load_app(target)
    view = explained(app.plan, dead_letters=app.dead_letter_topics)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(view), indent=2).decode())
    elif mermaid:
        click.echo(as_mermaid(view), nl=False)
    else:
        click.echo(as_text(view, style=click.style), nl=False)
