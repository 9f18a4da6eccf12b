"""Recipes: those of the package, and what is said of one that is wrong."""

import re

import pytest
import torch
import yaml
from timm.scheduler.cosine_lr import CosineLRScheduler

from attention_notes.registry import model
from attention_notes.training.loop import build
from attention_notes.training.optimise import rate, set_rate
from attention_notes.training.recipe import OWN, Optimise, load_recipe, names

PAPERS = [name for name in names() if load_recipe(name).data.name == "folder"]


@pytest.mark.parametrize("name", names())
def test_every_recipe_says_what_it_is_and_names_a_model(name):
    recipe = load_recipe(name)
    assert model(recipe.model)
    assert min(len(told) for told in (recipe.title, recipe.paper, recipe.cost, recipe.expect)) > 10
    assert f"train {name}" in recipe.command


@pytest.mark.parametrize("name", PAPERS)
def test_every_recipe_of_a_paper_builds_its_model(name):
    with torch.device("meta"):
        made = build(load_recipe(name), classes=1000)
    assert made.num_classes == 1000


@pytest.mark.parametrize("name", PAPERS)
def test_every_option_of_a_papers_recipe_has_its_source_beside_it(name):
    text = (OWN / f"{name}.yml").read_text()
    lines = text[text.index("model:") :].splitlines()[1:]
    assert [
        line
        for line in lines
        if not re.search(r"\S  # \S", line)
        and not re.fullmatch(
            r"(\w+:)|(  name: folder)|"
            r"(  std: .*)",
            line,
        )
    ] == []


def test_a_recipe_may_be_a_file_and_changed(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text((OWN / "digits.yml").read_text())
    changed = load_recipe(path, ["optimise.lr=1e-4", "augment.flip=0.5", "seed=3"])
    assert (changed.optimise.lr, changed.augment.flip, changed.seed) == (1e-4, 0.5, 3)
    assert changed.digest != load_recipe(path).digest == load_recipe("digits").digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optimise.warmup_epoch=3", "unknown optimise.warmup_epoch; did you mean warmup_epochs?"),
        ("optimise.lr=high", "optimise.lr: 'high' is no number"),
        ("optimise.lr=.nan", "optimise.lr: nan is no number"),
        ("optimise.batch=3.5", "optimise.batch: 3.5 is no whole number"),
        ("optimise.batch=0", "optimise.batch: 0 must be 1 or more"),
        ("optimise.optimizer=adam", "optimise.optimizer: 'adam' is unknown; known: adamw, lamb, sgd"),
        ("augment.flip=2", "augment.flip: 2.0 must be from 0 to 1"),
        ("augment.area=[1, 0.5]", "augment.area"),
        ("data.std=[0]", "std above 0"),
        ("data.mean=[0.1, 0.2]", "need a number for each channel"),
        ("optimise.betas=[0.9]", "optimise.betas"),
        ("optimise.warmup_epochs=999", "is longer than all of"),
        ("optimise=3", "is no mapping"),
        ("options=3", "options: 3 is no mapping"),
        ("seed=true", "seed: True is no whole number"),
        ("distil={teacher: 3}", "distil.teacher: 3 is no text"),
        ("distil={kind: hard}", "distil.teacher must be given"),
        ("optimise.lr", "write name=value"),
        ("model.name=3", "model has no parts"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        load_recipe("digits", [change])


def test_a_recipe_that_is_not_there_or_no_recipe_says_so(tmp_path):
    with pytest.raises(ValueError, match="did you mean digits"):
        load_recipe("digit")
    with pytest.raises(ValueError, match="cannot be read"):
        load_recipe(tmp_path / "none.yml")
    broken = tmp_path / "broken.yml"
    for text, words in (("a: [", "is no YAML"), ("- 1", "holds no recipe"), ("title: one", "must be given")):
        broken.write_text(text)
        with pytest.raises(ValueError, match=words):
            load_recipe(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no YAML"):
        load_recipe(broken)


@pytest.mark.parametrize("prefix", [True, False])
def test_the_rate_is_that_of_timms_schedule(prefix):
    """At every step of a training; timm's is counted in steps here."""
    per_epoch, said = 7, {"lr": 0.3, "min_lr": 0.01, "warmup_lr": 0.02}
    recipe = Optimise(
        epochs=10.0, batch=4, optimizer="sgd", warmup_epochs=2.0, weight_decay=0.0, cosine_after_warmup=prefix, **said
    )
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([parameter], lr=recipe.lr)
    schedule = CosineLRScheduler(
        theirs,
        t_initial=(10 - 2 * prefix) * per_epoch,
        lr_min=0.01,
        warmup_t=2 * per_epoch,
        warmup_lr_init=0.02,
        t_in_epochs=False,
        warmup_prefix=prefix,
    )
    expected, found = [], []
    for step in range(10 * per_epoch):
        schedule.step_update(step)
        expected.append(theirs.param_groups[0]["lr"])
        found.append(rate(recipe, step, steps_per_epoch=per_epoch))
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_rate_grows_with_the_batch_where_the_recipe_says_so():
    recipe = load_recipe("deit_s").optimise
    assert rate(recipe, 5 * 1251, steps_per_epoch=1251) == pytest.approx(1e-3, rel=1e-3)


def test_each_group_has_its_share_of_the_rate():
    optimizer = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "scale": s} for s in (1.0, 0.25)], lr=1
    )
    set_rate(optimizer, 0.8)
    assert [group["lr"] for group in optimizer.param_groups] == [0.8, 0.2]


def test_the_yaml_of_recipes_holds_plain_data():
    assert all(isinstance(yaml.safe_load(path.read_text()), dict) for path in OWN.glob("*.yml"))
