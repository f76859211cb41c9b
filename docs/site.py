"""Pages of the site that are made when it is built, so that they cannot go stale."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """The page's text: guarantees.md is GUARANTEES.md, command-line.md has every command's help."""
    if page.file.src_uri == "guarantees.md":
        text = (ROOT / "GUARANTEES.md").read_text(encoding="utf-8")
        return re.sub(r"\]\(docs/", "](", text)
    if page.file.src_uri == "command-line.md":
        return markdown.replace("<!-- help -->", _help())
    if page.file.src_uri.startswith("api/"):
        return re.sub(r"^::: (edgeae(?:\.media)?)\.(\w+)$", _home, markdown, flags=re.MULTILINE)
    return markdown


def _home(found: re.Match[str]) -> str:
    """The directive for a public name, at the module where it is defined."""
    package, name = found.groups()
    homes = importlib.import_module(package)._HOMES
    return f"::: {homes[name]}.{name}" if name in homes else found.group(0)


def on_post_build(*, config: Any) -> None:
    """Puts the demo page beside the pages, as demo/, if it was built: `npm run demo` in js/."""
    demo = ROOT / "js" / "site"
    if demo.is_dir():
        shutil.copytree(demo, Path(config["site_dir"]) / "demo", dirs_exist_ok=True)


def _help() -> str:
    from typer.main import get_command
    from typer.testing import CliRunner

    from edgeae.cli.app import app

    names = sorted(get_command(app).commands)  # type: ignore[attr-defined]
    sections = []
    for name in names:
        result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "100", "TERM": "dumb"})
        if result.exit_code != 0:
            raise RuntimeError(f"edgeae {name} --help fails: {result.output}")
        text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
        sections.append(f"## edgeae {name}\n\n```text\n{text.strip()}\n```")
    return "\n\n".join(sections)
