"""The package from a shell: ``python -m attention_notes list | show | verify | predict | attend``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all is well, 1 when ``verify`` finds something off, 2 for what cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError, RuntimeError) as error:  # a HubError is a RuntimeError
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has read enough
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attention_notes", description="Models of attention, and their weights.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("list", help="all models, and the published weights of each")
    one.add_argument("pattern", nargs="?", default="", help="only names that contain this")
    one.set_defaults(run=_list)

    one = commands.add_parser("show", help="one model: its parts, its cost, its weights")
    one.add_argument("model", help='a name from the list, such as "vit:B/16"')
    one.set_defaults(run=_show)

    one = commands.add_parser("verify", help="hold models against recorded counts and installed references")
    one.add_argument("model", nargs="*", help="names from the list; all when none is given")
    one.add_argument("--weights", action="store_true", help="compare the list of weights with the hub (network)")
    one.add_argument(
        "--pin", type=Path, metavar="PAPERS", help="as --weights, and write what is not pinned into the lists there"
    )
    one.set_defaults(run=_verify)

    one = commands.add_parser("predict", help="name what is on a picture")
    _takes_a_picture(one)
    one.add_argument("--top", type=int, default=5, help="how many classes")
    one.set_defaults(run=_predict)

    one = commands.add_parser("attend", help="draw where a model looks on a picture")
    _takes_a_picture(one)
    one.add_argument("--at", type=int, nargs=2, metavar=("ROW", "COLUMN"), help="the pixel that looks; the class token")
    one.add_argument("--out", type=Path, default=Path("attention.png"), help="where to write the drawing")
    one.set_defaults(run=_attend)
    return parser


def _takes_a_picture(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", type=Path)
    command.add_argument("--model", default="vit:B/16", help='a name from the list, "vit:B/16" if not given')
    command.add_argument("--weights", help="a repository from the list, or a file; the first of the list if not given")


def _list(options: argparse.Namespace) -> None:
    from attention_notes.registry import MODELS
    from attention_notes.weights.checkpoints import checkpoints

    weights: dict[str, list[str]] = {name: [] for name in MODELS}
    for checkpoint in checkpoints().values():
        weights[f"{checkpoint.key}:{checkpoint.variant}"].append(checkpoint.repo)
    shown = {
        name: repos
        for name, repos in weights.items()
        if options.pattern in name or any(options.pattern in repo for repo in repos)
    }
    if not shown:
        raise ValueError(f"no model and no weights with {options.pattern!r} in their name")
    for name, repos in shown.items():
        print(name)
        for repo in repos:
            print(f"    {repo}")
    print(f"{len(shown)} models, {sum(len(repos) for repos in shown.values())} published weights")


def _show(options: argparse.Namespace) -> None:
    import torch

    from attention_notes.registry import measure, model
    from attention_notes.weights import layouts
    from attention_notes.weights.checkpoints import checkpoints

    one = model(options.model)
    counts = measure(one.name)
    print(f"{one.name}: {counts.parameters:,} parameters, {counts.macs / 1e9:.2f} GMACs", end="")
    print(f" at {one.size} x {one.size}" if one.size else "", f"{counts.activations / 1e6:.1f}M activations", sep=", ")
    with torch.device("meta"):
        built = one.build()
    for name, part in built.named_children():
        print(f"    {name:12} {sum(p.numel() for p in part.parameters()):>13,}  {type(part).__name__}")
    published = [c for c in checkpoints().values() if f"{c.key}:{c.variant}" == one.name]
    for checkpoint in published:
        size = f", {checkpoint.size} x {checkpoint.size}" if checkpoint.size else ""
        print(f"weights {checkpoint.repo}: {checkpoint.labels or 'no head'}{size}, {checkpoint.revision or 'main'}")
    if published:
        print(f"reads and writes the layouts of {'; '.join(layouts(built))}")


def _verify(options: argparse.Namespace) -> int:
    if options.weights or options.pin:
        return _verify_weights(pin=options.pin)
    from attention_notes.registry import MODELS, examine, model, report

    names = [model(name).name for name in options.model] or list(MODELS)
    rows = []
    for i, name in enumerate(names):
        if sys.stderr.isatty():
            print(f"\r{i + 1} of {len(names)}: {name:30}", end="\r", file=sys.stderr)
        rows.append(examine(name))
    print(report(rows))
    return int(not all(row.ok for row in rows))


def _verify_weights(*, pin: Path | None) -> int:
    from attention_notes.registry.checking import pin_lists, problems
    from attention_notes.weights.checkpoints import checkpoints
    from attention_notes.weights.hub import HubError

    off, found_of = 0, dict[str, dict[str, dict[str, str]]]()
    for checkpoint in checkpoints().values():
        try:
            wrong, found = problems(checkpoint)
        except HubError as error:
            wrong, found = [str(error)], {}
        off += bool(wrong)
        new = "" if checkpoint.revision or wrong else "not pinned: " + ", ".join(found.values())
        print("✗" if wrong else "✓", checkpoint.repo, *wrong, new)
        if new:
            found_of.setdefault(checkpoint.key, {})[checkpoint.repo] = found
    if pin is not None:
        pin_lists(pin, found_of)
    print(f"{len(checkpoints())} published weights, {off} off")
    return int(off > 0)


def _predict(options: argparse.Namespace) -> None:
    from attention_notes.images.classify import predict

    image, model = _given(options)
    for found in predict(model, image, top=options.top):
        print(f"{found.probability:7.2%}  {found.name}")


def _attend(options: argparse.Namespace) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        raise ValueError('drawing needs matplotlib: pip install "attention-notes[book]"') from None
    mpl.use("agg")
    from attention_notes.chapters.plots.attention import attention_over
    from attention_notes.images.classify import input_size

    image, model = _given(options)
    if model.checkpoint is None:
        raise ValueError("a file does not say how it wants its pictures: name a repository of the list with --weights")
    pixels = model.checkpoint.input(image, size=input_size(model))[0]
    figure: Any = attention_over(model, pixels, at=tuple(options.at) if options.at else None).figure
    unfinished = options.out.with_name(f".{options.out.name}.part")
    try:
        figure.savefig(unfinished, format=options.out.suffix.lstrip(".") or "png", dpi=200, bbox_inches="tight")
        unfinished.replace(options.out)
    finally:
        unfinished.unlink(missing_ok=True)
    print(options.out)


def _given(options: argparse.Namespace) -> tuple[Any, Any]:
    """The picture, read first, since it is at hand, and the model with its weights."""
    from attention_notes.images import read_image
    from attention_notes.registry import model

    image, one = read_image(options.image), model(options.model)
    weights: Any = True if options.weights is None else options.weights
    if isinstance(weights, str) and Path(weights).is_file():
        weights = Path(weights)
    return image, one.build(pretrained=weights)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    sys.exit(main())
