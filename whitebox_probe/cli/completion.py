"""Print a script that lets a shell complete commands, options and names with the Tab key.

The names of checkpoints, metrics, data sets, figures, claims and the like are those known when the
script is made: make it again when the package or the registry has new ones.

bash: whitebox-probe completion bash > ~/.local/share/bash-completion/completions/whitebox-probe
zsh:  whitebox-probe completion zsh > DIR/_whitebox-probe, with DIR one of $fpath
tcsh: whitebox-probe completion tcsh > ~/.whitebox-probe.tcsh, with a line in ~/.tcshrc: source it
"""

import argparse

from whitebox_probe.cli import _completing

HELP = "a script that completes names in bash, zsh or tcsh"
EXAMPLES = ("completion bash", "completion zsh", "completion tcsh")
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=" or ".join(SHELLS))


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    import shtab

    from whitebox_probe.cli.main import parser

    whole = parser()
    _completing.prepare(whole)
    print(shtab.complete(whole, shell=args.shell))
