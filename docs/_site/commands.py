"""A directive that shows `--help` of every command, as the code has it."""

import argparse
import os
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDTH = "88"


class Commands(SphinxDirective):
    """One section a command."""

    def run(self) -> list[nodes.Node]:
        """Ask the parser, as it is set at a width."""
        from whitebox_probe.cli.main import parser

        os.environ["COLUMNS"] = WIDTH
        made: list[nodes.Node] = []
        actions = parser()._actions
        (commands,) = (each for each in actions if isinstance(each, argparse._SubParsersAction))
        for name, command in commands.choices.items():
            section = nodes.section(ids=[f"command-{name}"], names=[f"command {name}"])
            section += nodes.title(text=f"whitebox-probe {name}")
            section += nodes.literal_block(text=command.format_help(), language="text")
            made.append(section)
        return made


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
