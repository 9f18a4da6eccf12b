"""The package from a shell: ``attention-notes list | show | verify | predict | attend``."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".avif", ".jp2", ".ico")
COLOURS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "inception": ((0.5,) * 3, (0.5,) * 3)}


def run() -> None:
    """What the shell calls: ``main`` with the shell's arguments, and its status."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when all is well; 1 when ``verify`` finds something off, or a picture of many could not be read; 2 for what
        cannot be done; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads has read enough; Python would complain once more when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, RuntimeError) as error:  # a HubError is a RuntimeError
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attention-notes", description="Models of attention, and their weights.")
    parser.add_argument("--version", action="version", version=f"attention-notes {metadata.version('attention-notes')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("list", help="all models, and the published weights of each")
    one.add_argument("pattern", nargs="?", default="", help="only names that contain this")
    one.add_argument("--json", action="store_true", help="as one object of JSON: the weights of each model")
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

    one = commands.add_parser("predict", help="name what is on pictures")
    one.add_argument("image", type=Path, nargs="+", help="pictures, and folders of pictures")
    _takes_a_model(one)
    one.add_argument("--top", type=int, default=5, help="how many classes")
    one.add_argument("--json", action="store_true", help="a line of JSON for each picture")
    one.set_defaults(run=_predict)

    one = commands.add_parser("attend", help="draw where a model looks on a picture")
    one.add_argument("image", type=Path)
    _takes_a_model(one)
    one.add_argument(
        "--at",
        type=int,
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="the pixel of the picture that looks; the class token",
    )
    one.add_argument("--out", type=Path, default=Path("attention.png"), help="where to write the drawing")
    one.set_defaults(run=_attend)
    return parser


def _takes_a_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="vit:B/16", help='a name from the list, "vit:B/16" if not given')
    command.add_argument("--weights", help="a repository from the list, or a file; the first of the list if not given")
    own = command.add_argument_group("for a file of weights, which does not say how it was trained")
    own.add_argument(
        "--names", type=Path, metavar="FILE", help="the names of the classes, one a line; numbers if not given"
    )
    own.add_argument("--colours", choices=COLOURS, help="which mean and deviation were subtracted and divided by")
    own.add_argument("--interpolation", choices=("bicubic", "bilinear"), help="how pictures were scaled")
    own.add_argument(
        "--crop", type=float, metavar="SHARE", help="of the scaled picture, cut from its middle; 0: squashed"
    )


def _list(options: argparse.Namespace) -> None:
    weights = _names()  # nothing of torch is imported: a list should not take seconds
    shown = {
        name: repos
        for name, repos in weights.items()
        if options.pattern in name or any(options.pattern in repo for repo in repos)
    }
    if not shown:
        raise ValueError(f"no model and no weights with {options.pattern!r} in their name")
    if options.json:
        print(json.dumps(shown, indent=1))
        return
    for name, repos in shown.items():
        print(name)
        for repo in repos:
            print(f"    {repo}")
    print(f"{len(shown)} models, {sum(len(repos) for repos in shown.values())} published weights")


def _names() -> dict[str, list[str]]:
    """The models, as ``registry.MODELS`` has them, and the weights of each, from the papers' files alone."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, list[str]] = {}
    for folder in sorted(
        path for path in Path(__file__).with_name("papers").iterdir() if (path / "facts.yml").is_file()
    ):
        read = {
            name: yaml.load((folder / name).read_text("utf-8"), loader)
            for name in ("facts.yml", "checkpoints.yml")
            if (folder / name).is_file()
        }
        for variant in read["facts.yml"].get("variants", {}):
            rows = read.get("checkpoints.yml", {}).get(variant, [])
            found[f"{folder.name}:{variant}"] = [row["repo"] for row in rows]
    return found


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
    rows = [examine(name) for name in _counted(names, str)]
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


def _predict(options: argparse.Namespace) -> int:
    from attention_notes.images import read_image
    from attention_notes.images.classify import predict

    paths = list(_pictures(options.image))
    if len(paths) == 1:
        read_image(paths[0])  # at hand, and so before anything is fetched
    model = _model(options)
    how, unread = _equipment(options, model), 0
    for path in _counted(paths, str):
        try:
            found = predict(model, path, top=options.top, **how)
        except (ValueError, OSError) as error:
            if len(paths) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            unread += 1
            continue
        if options.json:
            classes = [{"name": c.name, "probability": c.probability, "index": c.index} for c in found]
            print(json.dumps({"image": str(path), "classes": classes}))
            continue
        if len(paths) > 1:
            print(path)
        for one in found:
            print(f"{one.probability:7.2%}  {one.name}")
    return int(unread > 0)


def _attend(options: argparse.Namespace) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        raise ValueError('drawing needs matplotlib: pip install "attention-notes[book]"') from None
    mpl.use("agg")
    from attention_notes.chapters.plots.attention import attention_over
    from attention_notes.images import read_image
    from attention_notes.images.classify import input_size

    image = read_image(options.image)
    model = _model(options)
    preprocessing, size = _equipment(options, model)["preprocessing"], input_size(model)
    at = preprocessing.place(tuple(options.at), image=(image.height, image.width), size=size) if options.at else None
    figure: Any = attention_over(model, preprocessing(image, size=size)[0], at=at).figure
    kind = options.out.suffix.lstrip(".") or "png"
    _write(options.out, lambda file: figure.savefig(file, format=kind, dpi=200, bbox_inches="tight"))
    print(options.out)


def _write(out: Path, save: Callable[[Path], object]) -> None:
    """Write whole or not at all; where a link points, and into a device or a pipe, never in its place."""
    target = out.resolve() if out.is_symlink() else out
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise ValueError(f"{out} is a directory: give the name of a file in it with --out")
        save(target)
        return
    unfinished = target.with_name(f".{target.name}.part")
    try:
        save(unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _pictures(given: Iterable[Path]) -> Iterator[Path]:
    """The pictures, and those of each folder by their names; a folder without any is a mistake."""
    for path in given:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not inside:
            raise ValueError(f"no pictures in {path}: their names end in {', '.join(PICTURES)}")
        yield from inside


def _counted(things: Sequence[Any], name: Callable[[Any], str]) -> Iterator[Any]:
    """The things one by one; where somebody watches and there are many, with a line that counts."""
    watched = len(things) > 1 and sys.stderr.isatty()
    for i, thing in enumerate(things):
        if watched:
            print(f"\r\033[K{i + 1} of {len(things)}: {name(thing)}", end="\r", file=sys.stderr, flush=True)
        yield thing
    if watched:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _model(options: argparse.Namespace) -> Any:
    """The model with its weights."""
    from attention_notes.registry import model
    from attention_notes.weights.checkpoints import lists

    one = model(options.model)
    if one.key not in lists():
        raise ValueError(f"nobody has published weights of {one.key}, and none can be loaded: choose another --model")
    weights: Any = True if options.weights is None else options.weights
    if isinstance(weights, str) and Path(weights).is_file():
        weights = Path(weights)
    return one.build(pretrained=weights)


def _equipment(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """How pictures become the model's input and what its classes are called, as far as the shell or the weights say."""
    from attention_notes.images import Preprocessing

    asked = {name: getattr(options, name) for name in ("colours", "interpolation", "crop", "names")}
    if model.checkpoint is not None:
        if told := [f"--{name}" for name, value in asked.items() if value is not None]:
            raise ValueError(f"{model.checkpoint.repo} says how it was trained: leave out {', '.join(told)}")
        return {"preprocessing": model.checkpoint.input}
    if missing := [f"--{name}" for name in ("colours", "interpolation", "crop") if asked[name] is None]:
        raise ValueError(f"{options.weights} does not say how it wants its pictures: give {', '.join(missing)}")
    mean, std = COLOURS[options.colours]
    how = Preprocessing(mean=mean, std=std, interpolation=options.interpolation, crop=options.crop or None)
    if options.names:
        return {"preprocessing": how, "names": options.names.read_text("utf-8").splitlines()}
    head: Any = getattr(model, "head", None) or model.class_head
    return {"preprocessing": how, "names": [str(i) for i in range(getattr(head, "out_features", 0))]}


if __name__ == "__main__":
    run()
