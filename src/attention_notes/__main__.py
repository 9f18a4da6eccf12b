"""The package from a shell: ``attention-notes list | show | verify | predict | attend | train``."""

import argparse
import inspect
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

# What is imported from torch takes seconds to be loaded: only commands that need it import it.

Thing = TypeVar("Thing")
Found = TypeVar("Found")

EXAMPLES = """\
examples:
  attention-notes list swin
  attention-notes predict photograph.jpg holidays/ --model swin_t
  attention-notes predict photograph.jpg --model vit:Ti/16 --weights mine.safetensors --names names.txt \\
      --size 256 --colours imagenet --interpolation bicubic --crop 0.9
  attention-notes attend photograph.jpg --model vit:B/16 --at 300 400 --out attention.png
  attention-notes train digits --out runs/digits
  torchrun --nproc-per-node 8 -m attention_notes train deit_s --data /data/imagenet --out runs/deit_s \\
      --precision bfloat16 --workers 10
"""
_PREPARED = ("colours", "interpolation", "crop")
_OWN = (*_PREPARED, "names", "window")
_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".npz")


def run() -> None:
    """What the shell calls: ``main`` with the shell's arguments, and its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # there is none where it was closed
            # names of files come out as they came in, or at least readable
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    sys.exit(_interruptible(main))


def _interruptible(command: Callable[[], int]) -> int:
    """The command's status; after Ctrl-C 130, also where a library that was being loaded makes another error of it."""
    pressed = []

    def interrupt(*_: object) -> None:
        pressed.append(True)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # and not where a shell has it ignored
        signal.signal(signal.SIGINT, interrupt)
    try:
        status = command()
    except Exception:
        if not pressed:
            raise
        _tell("interrupted")
        status = 130
    finally:
        signal.signal(signal.SIGINT, before)
    return 130 if pressed else status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when all is well; 1 when ``verify`` finds something off, or a picture of many cannot be read; 2 for what
        cannot be done; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough
        _write_no_more()
        return 0
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:  # a HubError is a RuntimeError
        _tell(f"error: {error}")
        _write_no_more()
        return 2
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    return status


def _tell(words: str) -> None:
    if sys.stderr is not None:  # it is None where it was closed, and ``print`` would take stdout then
        print(words, file=sys.stderr)


def _write_no_more() -> None:
    """Drop what stdout cannot take: Python would complain once more when it closes it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attention-notes",
        description="Models of attention papers: their sizes, their published weights, what they see on a picture.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    one = _command(commands, "list", _list, "all models, and the published weights of each")
    one.add_argument("pattern", nargs="?", default="", help="only models and weights whose name contains this")
    one.add_argument("--json", action="store_true", help="as one object of JSON: the weights of each model")

    one = _command(commands, "show", _show, "one model: its parts, its cost, its weights")
    one.add_argument("model", help=_MODEL)

    one = _command(commands, "verify", _verify, "hold models against recorded counts and installed references")
    one.add_argument("model", nargs="*", help=f"{_MODEL}; all when none is given")
    one.add_argument("--weights", action="store_true", help="compare the list of weights with the hub (network)")
    one.add_argument(
        "--pin", type=Path, metavar="PAPERS", help="as --weights, and write what is not pinned into the lists there"
    )

    one = _command(commands, "predict", _predict, "name what is on pictures")
    one.add_argument("image", type=Path, nargs="+", help="a picture, or a folder, of which all pictures are taken")
    _takes_a_model(one)
    one.add_argument("--top", type=int, default=5, metavar="COUNT", help="how many classes; 5 if not given")
    one.add_argument("--json", action="store_true", help="a line of JSON for each picture")

    one = _command(commands, "attend", _attend, "draw where a model looks on a picture")
    one.add_argument("image", type=Path, help="a picture")
    _takes_a_model(one)
    one.add_argument(
        "--at",
        type=int,
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="who looks: a pixel of the picture, counted from 0 at the top left; if not given, the class token",
    )
    one.add_argument(
        "--out", type=Path, default=Path("attention.png"), help="where to write the drawing; attention.png if not given"
    )

    one = _command(commands, "train", _train, "train a model by a recipe, or go on where a training ended")
    one.add_argument("recipe", nargs="?", default="digits", help="a name of --list, or a .yml file; else the digits'")
    one.add_argument("--list", action="store_true", help="the recipes of the package, and what they cost")
    one.add_argument("--out", type=Path, metavar="FOLDER", help="of this run; runs/RECIPE if not given")
    one.add_argument("--data", type=Path, metavar="FOLDER", help="with the images; the digits need none")
    one.add_argument("--download", action="store_true", help="get the set's files into --data first, if it is public")
    one.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another value, such as optimise.lr=1e-3"
    )
    one.add_argument("--dry-run", action="store_true", help="three small steps with all that the recipe names")
    here = one.add_argument_group("how it runs here", "None of these decides what comes out, but for rounding.")
    here.add_argument("--per-process", type=int, metavar="IMAGES", help="at once; a step is then several such parts")
    here.add_argument("--workers", type=int, default=0, help="processes that load images, for each that trains")
    here.add_argument("--strategy", choices=("ddp", "fsdp"), default="ddp", help="fsdp spreads the weights, too")
    here.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    here.add_argument("--device", choices=("cpu", "cuda", "mps"), help="the best that there is, if not given")
    here.add_argument("--compile", action="store_true", help="by torch.compile")
    here.add_argument("--checkpointing", action="store_true", help="less memory for one more forward pass")
    here.add_argument("--save-every", type=int, metavar="STEPS", help="write a checkpoint; each epoch if not given")
    here.add_argument("--log-every", type=int, default=50, metavar="STEPS")
    here.add_argument("--evaluate-every", type=int, default=1, metavar="EPOCHS")
    here.add_argument("--keep", type=int, default=2, metavar="COUNT", help="of the newest checkpoints")
    here.add_argument("--last-step", type=int, metavar="STEP", help="stop early; the same command goes on later")
    return parser


_MODEL = 'a name from the list, such as "vit:B/16"; "swin_t" will do where no other family has one'


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], help: str) -> Any:
    command = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    command.set_defaults(run=run)
    return command


def _takes_a_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="vit:B/16", metavar="NAME", help=f"{_MODEL}; vit:B/16 if not given")
    command.add_argument(
        "--weights",
        metavar="WEIGHTS",
        help="a repository from the list, or a file of your own; the first of the list if not given",
    )
    command.add_argument(
        "--size",
        type=_sides,
        metavar="PIXELS",
        help="of the model's input: 256, or 192x256 for height and width; if not given, as the weights have it",
    )
    own = command.add_argument_group(
        "for a file of your own",
        "Weights do not tell how the pictures of their training were prepared, so say it with "
        f"{', '.join(f'--{name}' for name in _PREPARED)}.",
    )
    own.add_argument(
        "--colours",
        choices=("imagenet", "inception", "clip"),
        help="mean and deviation of the colours: those of ImageNet, one half each, or those of CLIP",
    )
    own.add_argument("--interpolation", choices=("bicubic", "bilinear"), help="how pictures were scaled")
    own.add_argument(
        "--crop",
        metavar="SHARE",
        help='what was cut from the middle of the scaled picture, such as 0.875; "none" if all of it was squashed',
    )
    own.add_argument(
        "--names", type=Path, metavar="FILE", help="the names of the classes, one a line; if not given, their numbers"
    )
    own.add_argument("--window", type=_sides, metavar="TOKENS", help="of a Swin V2 in training: 8, or 6x8")


class _Version(argparse.Action):
    """Prints the version, which takes longer to be found than most commands take to start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        try:
            print("attention-notes", metadata.version("attention-notes"))
        except metadata.PackageNotFoundError:
            print("attention-notes, not installed")
        parser.exit()


def _sides(text: str) -> tuple[int, int]:
    """``256`` or ``192x256``."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
        height, width = sides * (3 - len(sides))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 256 or 192x256") from None
    return height, width


def _list(options: argparse.Namespace) -> None:
    shown = {
        name: repos
        for name, repos in _names().items()
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
    """The models, as ``registry.MODELS`` has them, and the weights of each: from the papers' files, without torch."""
    import yaml

    load = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the quick one, where there is one
    found: dict[str, list[str]] = {}
    for facts in sorted(Path(__file__).with_name("papers").glob("*/facts.yml")):
        listed = facts.with_name("checkpoints.yml")
        weights = yaml.load(listed.read_text("utf-8"), load) if listed.is_file() else {}
        for variant in yaml.load(facts.read_text("utf-8"), load).get("variants", {}):
            found[f"{facts.parent.name}:{variant}"] = [row["repo"] for row in weights.get(variant, [])]
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
        side = checkpoint.size or checkpoint.build.get("image_size")
        head = f"an embedding of {checkpoint.embedding}" if checkpoint.embedding else checkpoint.labels or "no head"
        size = f", {side} x {side}" if side else ""
        kind = f"{head}{size}, " if checkpoint.input else ""
        print(f"weights {checkpoint.repo}: {kind}{checkpoint.revision or 'main'}")
    if published:
        print(f"reads and writes the layouts of {'; '.join(layouts(built))}")


def _verify(options: argparse.Namespace) -> int:
    if options.weights or options.pin:
        return _verify_weights(pin=options.pin)
    from attention_notes.registry import MODELS, examine, model, report

    names = [model(name).name for name in options.model] or list(MODELS)
    rows = [row for _, row in _each(names, examine)]
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
    from PIL import Image

    from attention_notes.images import read_image
    from attention_notes.images.classify import Prediction, predict

    pictures = _pictures(options.image)
    if len(pictures) == 1:
        read_image(pictures[0])  # at hand, and so before weights are fetched
    model, how, size = _model(options)
    if len(pictures) > 1:  # what is wrong with the model or the options is told once, not of every picture
        predict(model, Image.new("RGB", size[::-1]), top=options.top, size=size, **how)

    def named(path: Path) -> list[Prediction] | Exception:
        try:
            return predict(model, path, top=options.top, size=size, **how)
        except (ValueError, OSError) as error:
            return error

    wrong = 0
    for path, found in _each(pictures, named):
        if isinstance(found, Exception):
            if len(pictures) == 1:
                raise found
            _tell(f"error: {found}")
            wrong += 1
        elif options.json:
            classes = [{"name": c.name, "probability": c.probability, "index": c.index} for c in found]
            print(json.dumps({"image": str(path), "classes": classes}))
        else:
            if len(pictures) > 1:
                print(path)
            for one in found:
                print(f"{one.probability:7.2%}  {one.name}")
    return int(wrong > 0)


def _attend(options: argparse.Namespace) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        raise ValueError('drawing needs matplotlib: pip install "attention-notes[book]"') from None
    mpl.use("agg")
    from attention_notes.chapters.plots.attention import attention_over
    from attention_notes.images import read_image

    kind = _kind(options.out)
    image = read_image(options.image)
    model, how, size = _model(options)
    preprocessing = how["preprocessing"]
    at = preprocessing.place(tuple(options.at), image=(image.height, image.width), size=size) if options.at else None
    figure: Any = attention_over(model, preprocessing(image, size=size)[0], at=at).figure
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=200, bbox_inches="tight")
    if _write(options.out, drawn.getvalue()):
        print(options.out)


def _train(options: argparse.Namespace) -> None:
    from attention_notes.training.recipe import load_recipe, names

    if options.list:
        for name in names():
            recipe = load_recipe(name)
            print(f"{name}\n    {recipe.title}\n    {recipe.cost}\n    {recipe.command}")
        return
    recipe = load_recipe(options.recipe, options.set)
    if options.download:
        _download(recipe.data.name, options.data)
    from attention_notes.training.loop import Running, dry_run, train

    how = Running(
        per_process=options.per_process,
        workers=options.workers,
        strategy=options.strategy,
        precision=options.precision,
        device=options.device,
        compile=options.compile,
        checkpointing=options.checkpointing,
        save_every=options.save_every,
        log_every=options.log_every,
        evaluate_every=options.evaluate_every,
        keep=options.keep,
        last_step=options.last_step,
    )
    first = os.environ.get("RANK", "0") == "0"
    if options.dry_run:
        dry_run(recipe, data=options.data, running=how)
        if first:
            print(f"{recipe.title}: three small steps taken, one of them from a checkpoint")
        return
    out = options.out or Path("runs") / Path(options.recipe).stem
    found = train(recipe, out=out, data=options.data, running=how)
    if first:
        named = "" if found.top1 is None else f", {found.top1:.2%} of the held-out images named right"
        averaged = "" if found.average_top1 is None else f", {found.average_top1:.2%} by the average of the weights"
        print(f"{out}: {found.steps} steps{named}{averaged}")


def _download(name: str, data: Path | None) -> None:
    from attention_notes.training.download import download

    if data is None:
        raise ValueError("--download needs --data, the folder that the files come into")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("--download is for one process: start it once with --dry-run and without torchrun, then train")
    download(name, data)


def _kind(out: Path) -> str:
    """The format of a drawing, by the name of its file; that it can be written is found out before anything is run."""
    from matplotlib.backend_bases import FigureCanvasBase

    kind = out.suffix.lstrip(".").lower() or "png"
    if out.is_dir():
        raise ValueError(f"{out} is a folder: give --out the name of a file in it")
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {out.parent}: make it first, or give another --out")
    if kind not in FigureCanvasBase.filetypes:
        raise ValueError(f"no drawing is written as {out.suffix}; known: {', '.join(FigureCanvasBase.filetypes)}")
    return kind


def _write(out: Path, content: bytes) -> bool:
    """Write a file whole or not at all, a link's there where it points; and into a device or pipe, not in its place.

    Returns:
        Whether there is a file now.
    """
    if out.exists() and not out.is_file():
        with out.open("wb") as device:
            device.write(content)
        return False
    target = out.resolve()
    unfinished = target.with_name(f".{target.name}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(target)
    except OSError as error:
        raise OSError(f"{out} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # it is not there any more
            unfinished.unlink()
    return True


def _pictures(given: Sequence[Path]) -> list[Path]:
    """The pictures given, and in the place of a folder all that it holds, by their names."""
    from attention_notes.images import suffixes

    found = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [p for p in path.iterdir() if p.suffix.lower() in suffixes() and p.name[0] != "." and p.is_file()]
        if not inside:
            raise ValueError(f"no pictures in {path}: their names end in {', '.join(suffixes())}")
        found += sorted(inside)
    return found


def _each(things: Sequence[Thing], work: Callable[[Thing], Found]) -> Iterator[tuple[Thing, Found]]:
    """What ``work`` makes of each; meanwhile, where there are many and somebody watches, a bar that tells how far."""
    watched = len(things) > 1 and sys.stderr is not None and sys.stderr.isatty()
    for done, thing in enumerate(things):
        width = shutil.get_terminal_size().columns - 1
        try:
            if watched:
                bar = f"[{'#' * (20 * done // len(things)):.<20}] {done} of {len(things)}  {thing}"
                print(f"\r{bar[:width]:{width}}", end="", file=sys.stderr, flush=True)
            found = work(thing)
        finally:
            if watched:
                print(f"\r{'':{width}}\r", end="", file=sys.stderr, flush=True)
        yield thing, found


def _model(options: argparse.Namespace) -> tuple[Any, dict[str, Any], tuple[int, int]]:
    """The model with its weights, how pictures become its input and what its classes are called, and its size."""
    from attention_notes.images.classify import input_size
    from attention_notes.registry import model

    one = model(options.model)
    if one.size is None:
        raise ValueError(f"{one.name} reads no pictures: choose another --model")
    weights = _weights(options)
    sizes = {}
    if options.size and "image_size" in inspect.signature(one.family.factory).parameters:
        sizes["image_size"] = options.size
    if options.window:
        sizes["window"] = options.window
    try:
        built: Any = one.build(pretrained=weights, **sizes)
    except TypeError as error:
        raise ValueError(f"{one.name} takes no --window: {error}") from error
    except ValueError as error:
        said = str(error).replace("is given as a Path", "is given with --weights")
        raise ValueError(f"{said} (image_size is --size here)" if "image_size" in said else said) from error
    try:
        size = options.size or input_size(built)
    except ValueError:
        raise ValueError(f"{one.name} takes pictures of any size: say with --size which it was trained on") from None
    return built, _equipment(options, built), size


def _weights(options: argparse.Namespace) -> Any:
    """What ``pretrained`` takes: True, a repository, or a file, if it is one or is called like one.

    Raises:
        ValueError: if options are missing that a file needs, or some are given that published weights do not take.
    """
    given, source = [f"--{name}" for name in _OWN if getattr(options, name) is not None], options.weights
    if source is None or not (Path(source).exists() or Path(source).suffix in _FILES or source.startswith((".", "/"))):
        if given:
            raise ValueError(f"published weights say themselves how they were trained: leave out {', '.join(given)}")
        return True if source is None else source
    if Path(source).is_dir():
        raise ValueError(f"{source} is a folder: give the file of weights in it with --weights")
    if not Path(source).exists():
        raise FileNotFoundError(f"there is no file {source}")
    if missing := [f"--{name}" for name in _PREPARED if getattr(options, name) is None]:
        raise ValueError(
            f"{source} does not tell how the pictures of its training were prepared: say it with {', '.join(missing)}"
        )
    return Path(source)


def _equipment(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """How pictures become the model's input and what its classes are called, as the weights or the shell say."""
    from attention_notes.images import Preprocessing
    from attention_notes.weights.checkpoints import COLOURS

    if model.checkpoint is not None:
        return {"preprocessing": model.checkpoint.input}
    colours, crop = COLOURS[options.colours], _share(options.crop)
    preprocessing = Preprocessing(**colours, interpolation=options.interpolation, crop=crop)
    head: Any = getattr(model, "head", None) or getattr(model, "class_head", None)
    return {"preprocessing": preprocessing, "names": _classes(options.names, getattr(head, "out_features", 0))}


def _share(crop: str) -> float | None:
    if crop == "none":
        return None
    try:
        return float(crop)
    except ValueError:
        raise ValueError(f"--crop {crop} is neither a number, such as 0.875, nor none") from None


def _classes(file: Path | None, count: int) -> list[str]:
    """The names of ``count`` classes."""
    if file is None:
        return [f"class {i}" for i in range(count)]
    try:
        names = file.read_text("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not in UTF-8: the names of the classes, one a line, are text") from None
    if len(names) != count:
        raise ValueError(f"{file} has {len(names)} names, but the weights are of {count} classes")
    return names


if __name__ == "__main__":
    run()
