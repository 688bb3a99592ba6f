"""Shell completion: one script a shell, with every word and option written into it.

The script is static, so completing costs no start of Python; it is made again after an upgrade.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from edge.cli import exits, own, program

PLACES = {
    "bash": ".local/share/bash-completion/completions/portal",
    "zsh": ".zsh/completions/_portal",
    "fish": ".config/fish/completions/portal.fish",
}
NOTES = {
    "zsh": "Add to ~/.zshrc, before compinit: fpath=(~/.zsh/completions $fpath)",
    "bash": "It needs the package bash-completion; a new shell has it.",
    "fish": "A new shell has it.",
}


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(script(arguments.shell), end="")
    return exits.OK


def install(_: argparse.Namespace) -> int:
    """Write the script to where the shell in `$SHELL` looks for it."""
    shell = Path(os.environ.get("SHELL", "")).name
    if shell not in own.SHELLS:
        print(f"$SHELL is {shell or 'not set'}; known are {', '.join(own.SHELLS)}", file=sys.stderr)
        return exits.USAGE
    path = Path.home() / PLACES[shell]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(shell))
    print(f"Written to {path}. {NOTES[shell]}", file=sys.stderr)
    return exits.OK


def script(shell: str) -> str:
    """The completion script of one shell."""
    return {"bash": bash, "zsh": zsh, "fish": fish}[shell](tables())


Tables = dict[str, list[str]]


def tables() -> Tables:
    """What may follow which words.

    `""` has the commands, `"agents"` its verbs, `"agents list"` its options, and
    `"agents list --status"` the values of an option that has a few.
    """
    found: Tables = {}
    walk(program.build(), "", found)
    for group in (*program.domains(), *own.GROUPS):
        filled = subparsers(program.build(group))[group]
        walk(filled, group, found)
    return found


def walk(parser: argparse.ArgumentParser, path: str, found: Tables) -> None:
    """Note a parser's options, choices and sub-commands."""
    inner = subparsers(parser)
    options: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to read a parser
        options += action.option_strings
        if action.choices and not isinstance(action.choices, dict):
            for option in action.option_strings or [""]:
                found[f"{path} {option}".strip()] = [str(choice) for choice in action.choices]
    found.setdefault(path, []).extend([*inner, *options])
    for name, child in inner.items():
        walk(child, f"{path} {name}".strip(), found)


def subparsers(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The sub-commands of a parser."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action.choices, dict):
            return dict(action.choices)
    return {}


def cases(found: Tables) -> str:
    """The tables as branches of a shell's `case`."""
    rows = (f"    {shlex.quote(path)}) words={shlex.quote(' '.join(words))} ;;"
            for path, words in found.items())  # fmt: skip
    return "\n".join(rows)


def bash(found: Tables) -> str:
    """The script of bash; what is in no table completes as a file."""
    return f"""\
# bash completion of portal; made by `portal completion bash`
_portal_words() {{
  local words=""
  case "$1" in
{cases(found)}
  esac
  printf '%s' "$words"
}}
_portal() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" last="${{COMP_WORDS[COMP_CWORD-1]}}"
  local path="" word words
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    [[ $word == -* ]] && continue
    [[ -n $(_portal_words "${{path:+$path }}$word") ]] && path="${{path:+$path }}$word"
  done
  words=""
  [[ $last == -* ]] && words=$(_portal_words "$path $last")
  [[ -z $words ]] && words=$(_portal_words "$path")
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _portal portal
"""


def zsh(found: Tables) -> str:
    """The script of zsh."""
    return f"""\
#compdef portal
# zsh completion of portal; made by `portal completion zsh`
_portal_words() {{
  local words=""
  case "$1" in
{cases(found)}
  esac
  print -rn -- "$words"
}}
_portal() {{
  local command_path="" word candidates="" last="${{words[CURRENT-1]}}"
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    [[ $word == -* ]] && continue
    [[ -n $(_portal_words "${{command_path:+$command_path }}$word") ]] && \\
      command_path="${{command_path:+$command_path }}$word"
  done
  [[ $last == -* ]] && candidates=$(_portal_words "$command_path $last")
  [[ -z $candidates ]] && candidates=$(_portal_words "$command_path")
  compadd -- ${{=candidates}} || _files
}}
if [[ $funcstack[1] == _portal ]]; then _portal "$@"; else compdef _portal portal; fi
"""


def fish(found: Tables) -> str:
    """The script of fish: one line for each place."""
    lines = ["# fish completion of portal; made by `portal completion fish`"]
    for path, words in found.items():
        *parents, last = path.split() or [""]
        seen = [word for word in (*parents, last) if word]
        if last.startswith("-"):
            name = f"-l {last.lstrip('-')}" if last.startswith("--") else f"-s {last[1:]}"
            lines.append(fish_line(seen[:-1], f"{name} -x -a {shlex.quote(' '.join(words))}"))
            continue
        plain = [word for word in words if not word.startswith("-")]
        if plain:
            only_here = [f"not __fish_seen_subcommand_from {' '.join(plain)}"]
            lines.append(fish_line(seen, f"-f -a {shlex.quote(' '.join(plain))}", only_here))
        lines += [fish_line(seen, f"-l {w[2:]}") for w in words if w.startswith("--")]
    return "\n".join(lines) + "\n"


def fish_line(seen: list[str], what: str, more: list[str] | None = None) -> str:
    """One `complete` under the condition that these words stand before."""
    tests = [f"__fish_seen_subcommand_from {word}" for word in seen] + (more or [])
    condition = f" -n {shlex.quote('; and '.join(tests))}" if tests else ""
    return f"complete -c portal{condition} {what}"
