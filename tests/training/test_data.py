"""Images: the files that others publish, and an order that depends on the seed alone."""

import gzip
import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image

from attention_notes.training.data import (
    Batch,
    Made,
    Order,
    Parts,
    Rounds,
    Samples,
    Some,
    evaluation_batches,
    open_sets,
    training_batches,
)
from attention_notes.training.recipe import load_recipe, names
from attention_notes.training.transforms import for_evaluation, for_training

ADDED = "augment={flip: 0.5, shift: 1, erase: 0.5}"


def idx(images, labels):
    """The two files of IDX for some images, made from its description."""

    def header(array):
        return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)

    return header(images) + images.tobytes(), header(labels) + labels.tobytes()


def write_fashion(folder, counts=(5, 3), *, packed=True):
    rng = np.random.default_rng(0)
    written = {}
    for part, count in zip(("train", "t10k"), counts, strict=True):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        written[part] = images, labels
        for kind, content in zip(("images-idx3", "labels-idx1"), idx(images, labels), strict=True):
            path = folder / f"{part}-{kind}-ubyte{'.gz' * packed}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return written


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_read_from_its_four_files(tmp_path, packed):
    written = write_fashion(tmp_path, packed=packed)
    sets = open_sets(load_recipe("digits", ["data.name=fashion_mnist"]), tmp_path)
    for found, (images, labels) in zip((sets.train, sets.held_out), written.values(), strict=True):
        assert torch.equal(found.images, torch.from_numpy(images)[:, None])
        assert found.labels == labels.tolist()
    assert sets.train.classes[9] == "ankle boot"


def test_files_of_fashion_mnist_that_are_missing_or_cut_off_are_named(tmp_path):
    recipe = load_recipe("digits", ["data.name=fashion_mnist"])
    with pytest.raises(
        ValueError, match=re.escape("train-images-idx3-ubyte, nor train-images-idx3-ubyte.gz: put there")
    ):
        open_sets(recipe, tmp_path)
    with pytest.raises(ValueError, match="give --data the folder"):
        open_sets(recipe, None)
    write_fashion(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = gzip.decompress(path.read_bytes())
    for content in (gzip.compress(whole[:-1]), path.read_bytes()[:-20], gzip.compress(b"\0" * 16), b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            open_sets(recipe, tmp_path)


def write_cifar(folder):
    rng = np.random.default_rng(0)
    written = []
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        rows = rng.integers(0, 10, (4, 3073), np.uint8)
        (folder / name).write_bytes(rows.tobytes())
        written.append(rows)
    (folder / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)))
    return written


def test_cifar_is_read_from_its_binary_files(tmp_path):
    written = write_cifar(tmp_path)
    sets = open_sets(load_recipe("digits", ["data.name=cifar10"]), tmp_path)
    assert (len(sets.train), len(sets.held_out)) == (20, 4)
    assert sets.train.labels[4] == written[1][0, 0]
    red = written[1][0, 1 : 1 + 1024].reshape(32, 32)
    assert np.array_equal(sets.train.image(4)[0].numpy(), red)
    (tmp_path / "data_batch_2.bin").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="no multiple of 3073"):
        open_sets(load_recipe("digits", ["data.name=cifar10"]), tmp_path)


def write_folder(root, *, classes=("ant", "bee"), each=3, size=(20, 30)):
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(each):
                Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / part / name / f"{i}.png")


FOLDER = ("data={name: folder, size: 16, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",)


def test_a_folder_has_a_folder_of_each_class(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "bee" / "notes.txt").write_text("no picture")
    sets = open_sets(load_recipe("digits", FOLDER), tmp_path)
    assert (sets.train.classes, sets.train.labels) == (["ant", "bee"], [0, 0, 0, 1, 1, 1])
    assert sets.train.image(0).size == (30, 20)


def test_what_is_no_such_folder_says_what_is_missing(tmp_path):
    recipe = load_recipe("digits", FOLDER)
    with pytest.raises(ValueError, match="there is no folder"):
        open_sets(recipe, tmp_path / "none")
    with pytest.raises(ValueError, match="has no folder train/"):
        open_sets(recipe, tmp_path)
    write_folder(tmp_path)
    (tmp_path / "train" / "cow").mkdir()
    with pytest.raises(ValueError, match="no pictures in cow"):
        open_sets(recipe, tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "cow" / "1.png")
    with pytest.raises(ValueError, match="do not have the same classes; cow"):
        open_sets(recipe, tmp_path)


def test_a_picture_that_cannot_be_read_is_told_and_replaced(tmp_path):
    write_folder(tmp_path)
    recipe = load_recipe("digits", FOLDER)
    (tmp_path / "train" / "ant" / "1.png").write_bytes(b"broken")
    sets = open_sets(recipe, tmp_path)
    image, label, told = Samples(sets.train, recipe)[0, 0, 1]
    assert (image.shape, label) == ((3, 16, 16), 0)
    assert "1.png" in told
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"cannot be read; the first: .*0\.png"):
        Samples(sets.train, recipe)[0, 0, 0]


def test_a_held_out_picture_that_cannot_be_read_is_an_error(tmp_path):
    write_folder(tmp_path)
    recipe = load_recipe("digits", FOLDER)
    sets = open_sets(recipe, tmp_path)
    (tmp_path / "val" / "bee" / "2.png").write_bytes(b"broken")
    batches = evaluation_batches(recipe, sets.held_out, batch=8, rank=0, processes=1, workers=0, pinned=False)
    with pytest.raises(ValueError, match=r"2\.png"):
        list(batches)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    order = Order(23, batch=5, repeats=1, seed=0)
    epochs = [[index for step in range(4 * e, 4 * e + 4) for _, _, index in order(step)] for e in (0, 1)]
    assert [len({*epoch}) for epoch in epochs] == [20, 20]
    assert epochs[0] != epochs[1]
    assert [index for step in range(4) for _, _, index in Order(23, batch=5, repeats=1, seed=1)(step)] != epochs[0]


def test_with_repeats_an_image_comes_so_often_in_a_row_at_other_places():
    order = Order(12, batch=6, repeats=3, seed=0)
    rows = order(0)
    assert [row[2] for row in rows] == [row[2] for row in rows[::3] for _ in range(3)]
    assert len({place for _, place, _ in rows}) == 6


def test_fewer_images_than_a_batch_are_an_error():
    with pytest.raises(ValueError, match="there are only 4 images"):
        Order(4, batch=5, repeats=1, seed=0)


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_the_parts_of_all_processes_are_the_step(processes, accumulate):
    order = Order(50, batch=12, repeats=1, seed=0)
    parts = [
        list(Parts(order, steps=range(2, 4), rank=rank, processes=processes, accumulate=accumulate))
        for rank in range(processes)
    ]
    assert {len(own) for own in parts} == {2 * accumulate}
    for step in (0, 1):
        seen = [row for own in parts for part in own[step * accumulate : (step + 1) * accumulate] for row in part]
        assert sorted(seen) == sorted(order(2 + step))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_held_out_image_counts_once_and_all_processes_have_as_many_batches(processes):
    rounds = [list(Rounds(11, batch=2, rank=rank, processes=processes)) for rank in range(processes)]
    assert len({len(own) for own in rounds}) == 1
    assert {len(batch) for own in rounds for batch in own} == {2}
    counted = [index for own in rounds for batch in own for _, place, index in batch if place >= 0]
    assert sorted(counted) == list(range(11))


def test_a_sample_is_the_same_whoever_loads_it():
    recipe = load_recipe("digits", ["augment={flip: 0.5, shift: 1, erase: 0.5}"])
    sets = open_sets(recipe, None)
    order = Order(len(sets.train), batch=16, repeats=1, seed=recipe.seed)

    def loaded(workers, begin, processes=1, rank=0):
        batches = training_batches(
            recipe,
            sets.train,
            order,
            steps=range(begin, 3),
            rank=rank,
            processes=processes,
            accumulate=2,
            workers=workers,
            pinned=False,
        )
        return [images for images, _, _ in batches]

    alone = loaded(0, 0)
    assert all(torch.equal(a, b) for a, b in zip(alone, loaded(2, 0), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone[4:], loaded(0, 2), strict=True))
    shared = [torch.stack(loaded(0, 0, 2, rank)) for rank in (0, 1)]
    ours = torch.stack(alone).flatten(0, 1)[:16]  # a step, whose even places are the first process's
    both = torch.stack([x[:2].flatten(0, 1) for x in shared], 1).flatten(0, 1)
    assert torch.equal(ours, both)
    other = training_batches(
        load_recipe("digits", [ADDED, "seed=1"]),
        sets.train,
        order,
        steps=range(1),
        rank=0,
        processes=1,
        accumulate=2,
        workers=0,
        pinned=False,
    )
    assert not torch.equal(next(iter(other))[0], alone[0])


def test_images_are_padded_to_the_models_size_and_never_cut():
    recipe = load_recipe("digits", ["data.size=11"])
    image = for_evaluation(recipe)(torch.full((1, 8, 8), 255, dtype=torch.uint8))
    inside = torch.zeros(11, 11, dtype=torch.bool)
    inside[1:9, 1:9] = True
    assert torch.equal(image[0] > 0, inside)
    with pytest.raises(ValueError, match="8 x 8 pixels"):
        for_evaluation(load_recipe("digits", ["data.size=7"]))(torch.zeros(1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("side", [4, 16])
def test_images_of_one_size_are_scaled_where_that_is_asked(side):
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    image[:, :4] = 255
    changes = ["data.fit=scale", f"data.size={side}", "data.interpolation=bilinear"]
    scaled = for_evaluation(load_recipe("digits", changes))(image)
    assert scaled.shape == (1, side, side)
    assert scaled[:, : side // 4].min() == 255
    assert scaled[:, -side // 4 :].max() == 0


def test_some_images_are_held_out_to_choose_by_the_same_for_every_seed():
    whole = open_sets(load_recipe("digits"), None)
    few = ["data.images=50", "data.validation=30"]
    sets, again = (open_sets(load_recipe("digits", [*few, f"seed={seed}"]), None) for seed in (0, 1))
    assert [len(images) for images in (sets.train, sets.held_out)] == [50, 30]
    assert not set(sets.train.places) & set(sets.held_out.places)
    assert sets.train.places == again.train.places
    place = sets.held_out.places[7]
    assert sets.held_out.labels[7] == whole.train.labels[place]
    assert torch.equal(sets.held_out.image(7), whole.train.image(place))
    rest = open_sets(load_recipe("digits", ["data.validation=30"]), None)
    assert len(rest.train) == len(whole.train) - 30
    assert rest.held_out.places == sets.held_out.places
    tested = open_sets(load_recipe("digits", ["data.images=50"]), None)
    assert tested.train.places == sets.train.places
    assert len(tested.held_out) == len(whole.held_out)
    with pytest.raises(ValueError, match=r"data.images=2000 and data.validation=30 .* than the \d+ images"):
        open_sets(load_recipe("digits", ["data.images=2000", "data.validation=30"]), None)


def test_a_picture_is_scaled_cut_and_normalised():
    recipe = load_recipe("digits", [*FOLDER, "data.crop=0.5"])
    cut = for_evaluation(recipe)(Image.new("RGB", (40, 30), (255, 0, 127)))
    image, _, _ = Batch(recipe)([(cut, 0, "")])
    image = image[0]
    assert image.shape == (3, 16, 16)
    assert image.mean((1, 2)).tolist() == pytest.approx([1, -1, -0.004], abs=1e-3)


def test_the_papers_augmentations_change_pictures_and_follow_the_seed():
    recipe = load_recipe("deit_s", ["data.size=32"])
    samples = Samples(Made(32, classes=2, count=4), recipe)
    first, again, elsewhere = samples[0, 3, 1][0], samples[0, 3, 1][0], samples[0, 4, 1][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, elsewhere)
    three = load_recipe("deit_iii_s", ["data.size=32"])
    assert Samples(Made(32, classes=2, count=4), three)[0, 0, 0][0].shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("augment.rand_augment=rand-m9", "is for folders of pictures"),
        ("augment.area=[0.5, 1]", "is for folders of pictures"),
        ("data.name=mnist", "unknown data.name 'mnist'"),
    ],
)
def test_what_a_set_cannot_have_is_said(change, words):
    recipe = load_recipe("digits", [change])
    with pytest.raises(ValueError, match=words):
        for_training(recipe), open_sets(recipe, None)


@pytest.mark.parametrize("name", names())
def test_what_is_done_to_images_can_be_sent_to_workers_that_do_not_inherit_it(name):
    """As on macOS, where a worker is a new process."""
    samples = Samples(Made(8, classes=2, count=2), load_recipe(name))
    assert len(pickle.loads(pickle.dumps(samples)).images) == 2


def test_timm_says_what_it_does_not_understand():
    with pytest.raises(ValueError, match="timm does not understand"):
        for_training(load_recipe("deit_s", ["augment.rand_augment=round-m9"]))


def test_some_are_the_first():
    few = Some(Made(8, classes=3, count=7), range(4))
    assert (len(few), few.labels, few.classes) == (4, [0, 1, 2, 0], ["0", "1", "2"])


@pytest.mark.parametrize(("bits", "red"), [(8, 255), (1, 128), (0, 0), (-1, 0)])
def test_at_its_largest_strength_posterising_makes_black_and_no_error(bits, red):
    """As Pillow did before its version 13, for which timm's operation was written."""
    made = for_training(load_recipe("deit_s", ["augment.rand_augment=rand-m9-inc1-n1"]))
    (augmented,) = (step for step in made.steps if hasattr(step, "ops"))
    (operation,) = (one for one in augmented.ops if one.name.startswith("Posterize"))
    image = operation.aug_fn(Image.new("RGB", (4, 4), "red"), bits, fillcolor=(0, 0, 0))
    assert image.getcolors() == [(16, (red, 0, 0))]


def test_a_batch_is_normalised_as_its_images_would_be_and_what_was_is_left():
    recipe = load_recipe("digits", ["data.mean=[0.5, 0.25, 0]", "data.std=[0.5, 1, 2]"])
    drawn = torch.randint(256, (4, 3, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images, labels, told = Batch(recipe)([(image, i, "odd" * (i == 2)) for i, image in enumerate(drawn)])
    assert torch.equal(images[:, 1], drawn[:, 1] / 255 - 0.25)
    assert torch.allclose(images[:, 2], drawn[:, 2] / 510)
    assert (labels.tolist(), told) == ([0, 1, 2, 3], ["odd"])
    assert torch.equal(Batch(recipe)([(image, 0, "") for image in images])[0], images)
    with pytest.raises(ValueError, match=r"images have 3 channels, and data\.mean is of 1"):
        Batch(load_recipe("digits"))([(drawn[0], 0, "")])


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        ("seed=1", False),
        ("augment={mixup: 0.8, repeats: 2}", False),
        ("augment.shift=1", True),
        ("augment.erase=0.1", True),
    ],
)
def test_nothing_is_seeded_where_nothing_is_left_to_chance(change, drawn):
    images = Made(8, classes=2, count=2)
    assert Samples(images, load_recipe("digits", [change])).drawn == drawn
    assert Samples(images, load_recipe("deit_s", ["augment={}"])).drawn, "a part is cut out of a folder's pictures"
