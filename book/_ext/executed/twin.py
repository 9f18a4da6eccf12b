"""A chapter's executed twin: the notebook that nbval compares with and that Colab opens.

Colab knows no MyST. What the chapters use of it is turned into plain Markdown with links into the site; anything else
is an error, so that no raw directive ever reaches a reader.
"""

import hashlib
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from . import flow, statements
from .live import is_live

INSTALL = """\
# On Colab this installs the book's package beside the torch that is there; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    import torch

    %pip install --quiet "torch=={{torch.__version__}}" "attention-notes[book] @ git+{repository}"
"""

# Numbers of trainings, as chapters print them; nbval is given the same file by book/conftest.py.
_CONFIGURATION = (Path(__file__).parents[1] / "approximate.cfg").read_text(encoding="utf-8")
_APPROXIMATE = re.compile("|".join(re.findall(r"^regex: (.*)$", _CONFIGURATION, re.MULTILINE)))

_FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<argument>[^\n]*)$")
_ROLE = re.compile(r"\{(?P<name>[\w:-]+)\}`(?P<text>[^`]+)`")
_TARGET = re.compile(r"^\([\w:-]+\)=\s*$", re.MULTILINE)
_LABELLED = re.compile(r"^\$\$(?P<body>.*?)\$\$[ \t]*\((?P<label>[\w:-]+)\)[ \t]*$", re.MULTILINE | re.DOTALL)
_ADMONITIONS = {"note": "Note", "tip": "Tip", "warning": "Warning", "important": "Important", "admonition": ""}

# (role, target, own words or "") -> plain Markdown
Resolve = Callable[[str, str, str], str]


def make_twin(
    executed: Mapping[str, Any], *, resolve: Resolve, source: Callable[[str], str], repository: str, fingerprint: str
) -> nbformat.NotebookNode:
    """The twin of an executed chapter.

    Args:
        executed: the chapter as it was executed, MyST and all outputs.
        resolve: turns a role's target into Markdown: a link, a number, an author and a year.
        source: gives the source of an object of the package by its dotted name.
        repository: public address that Colab installs from.
        fingerprint: what the outputs depend on, kept in the twin's metadata.

    Raises:
        ValueError: if a directive is met that has no plain form.
    """
    install = nbformat.v4.new_code_cell(INSTALL.format(repository=repository).rstrip())
    cells = [install]
    for cell in executed["cells"]:
        if cell["cell_type"] == "markdown":
            text = plain_markdown(cell["source"], resolve=resolve, source=source).strip()
            cells += [nbformat.v4.new_markdown_cell(text)] if text else []
        elif cell["cell_type"] == "code":
            cells.append(_code_cell(cell))
            caption = cell["metadata"].get("mystnb", {}).get("figure", {})
            if caption:
                words = plain_markdown(caption["caption"], resolve=resolve, source=source)
                cells.append(nbformat.v4.new_markdown_cell(f"{resolve('figure', caption['name'], '')} {words}"))
    _count(cells)
    _name(cells)
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "attention_notes": {"fingerprint": fingerprint},
    }
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return notebook


def plain_markdown(text: str, *, resolve: Resolve, source: Callable[[str], str]) -> str:
    """MyST without its directives, roles, targets and labels."""
    lines, out = text.splitlines(), list[str]()
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        verbatim = re.match(r"^(`{3,})(?!\{)", lines[at])
        if opening or verbatim:
            fence = opening["fence"] if opening else verbatim[1]  # type: ignore[index]
            end = next((i for i in range(at + 1, len(lines)) if lines[i].rstrip() == fence), None)
            if end is None:
                raise ValueError(f"the fence opened by {lines[at]!r} is never closed")
            if opening:
                body = "\n".join(lines[at + 1 : end])
                out.append(_directive(opening["name"], opening["argument"].strip(), body, resolve, source))
            else:
                out += lines[at : end + 1]
            at = end + 1
        else:
            start = at
            while at < len(lines) and not _FENCE.match(lines[at]) and not lines[at].startswith("```"):
                at += 1
            out.append(_inline("\n".join(lines[start:at]), resolve))
    return "\n".join(out)


def exact(text: str) -> str:
    """A text without the numbers that another processor may print otherwise: those that follow a ≈."""
    return _APPROXIMATE.sub("≈", text)


def write_if_changed(path: Path, notebook: nbformat.NotebookNode) -> bool:
    """Write the notebook whole or not at all; one that differs in approximate numbers only is left alone."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if path.exists() and exact(path.read_text(encoding="utf-8")) == exact(text):
        return False
    unfinished = path.with_suffix(".ipynb.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _directive(name: str, argument: str, body: str, resolve: Resolve, source: Callable[[str], str]) -> str:
    if name == "source":
        return f"```python\n{source(argument).rstrip()}\n```"
    if name == "statements":
        return _inline(statements.plain(argument), resolve)
    if name == "flow":
        *pictures, caption = flow.plain(body).splitlines()
        number = resolve("figure", re.findall(r"(?m)^:name: (.*)$", body)[0], "")
        return "\n".join([*pictures, f"{number} {_inline(caption, resolve)}"])
    if name not in _ADMONITIONS:
        raise ValueError(
            f"the directive {{{name}}} has no plain form for Colab; known: flow, source, statements, "
            f"{', '.join(_ADMONITIONS)}"
        )
    options = re.match(r"(?::[^\n]*\n?)*", body)
    inner = plain_markdown(body[options.end() if options else 0 :].strip(), resolve=resolve, source=source)
    title = argument or _ADMONITIONS[name]
    if options and "dropdown" in options[0]:
        return f"<details><summary><b>{title}</b></summary>\n\n{inner}\n\n</details>"
    return textwrap.indent(f"**{title}.** {inner}", "> ", lambda line: True)


def _inline(text: str, resolve: Resolve) -> str:
    text = _TARGET.sub("", text)
    text = _LABELLED.sub(
        lambda m: f"$$\n{m['body'].strip()} \\tag{{{resolve('number', m['label'], '')}}}\n$$",
        text,
    )

    def role(match: re.Match[str]) -> str:
        words = re.fullmatch(r"(.*?)\s*<([^>]+)>", match["text"], re.DOTALL)
        return resolve(match["name"], words[2] if words else match["text"], words[1] if words else "")

    return _ROLE.sub(role, text)


def _code_cell(cell: Mapping[str, Any]) -> nbformat.NotebookNode:
    tags = [*cell["metadata"].get("tags", [])]
    if any(is_live(output.get("data", {}).get("text/html", "")) for output in cell["outputs"]):
        if len(cell["outputs"]) > 1:
            raise ValueError(f"a cell that shows a live component shows nothing else:\n{cell['source']}")
        tags += ["live", "nbval-ignore-output"]  # a picture, and like a picture it is not compared
    return nbformat.v4.new_code_cell(
        cell["source"],
        outputs=_merge_streams([_text_only(output) for output in cell["outputs"]]),
        metadata={"tags": tags} if tags else {},
    )


def _text_only(output: Mapping[str, Any]) -> nbformat.NotebookNode:
    kept = dict(output)
    if "data" in kept:
        kept["data"] = {
            kind: data
            for kind, data in kept["data"].items()
            if not kind.startswith("image/") and not (kind == "text/html" and is_live(data))
        }
        kept["metadata"] = {}
    return nbformat.from_dict(kept)


def _merge_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """One output where the kernel sent what a cell printed in several: where it cuts is a matter of timing."""
    merged = list[nbformat.NotebookNode]()
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _count(cells: list[nbformat.NotebookNode]) -> None:
    """Execution counts from top to bottom; nbval passes over a cell that has none."""
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count


def _name(cells: list[nbformat.NotebookNode]) -> None:
    """Ids that follow from the content, so that a twin's diff shows what changed and no more."""
    seen: dict[str, int] = {}
    for cell in cells:
        name = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
