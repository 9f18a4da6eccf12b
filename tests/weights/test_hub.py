"""Weights from a hub: what is listed, what arrives, what is made of it, and what goes wrong on the way."""

import dataclasses
import io
import pickle
import zipfile
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from safetensors.torch import save, save_file
from torch import nn

from attention_notes.papers import families
from attention_notes.papers.pvt import pvt
from attention_notes.papers.swin import swin
from attention_notes.papers.vit import vit
from attention_notes.registry.checking import pin_lists, problems
from attention_notes.weights import to_layout, to_timm
from attention_notes.weights.checkpoints import checkpoints, find, lists
from attention_notes.weights.files import read_weights
from attention_notes.weights.hub import HubError, fetch
from tests.weights.loopback import COMMIT, Hub

TINY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
FACTORIES = {key: families()[key].factory for key in lists()}
TABLES = {key: families()[key].variants for key in lists()}
# Shallow or narrow models in the published shape, so that tests do not wait for initial values: ours, and timm's.
NARROW = (
    {"dim": 24, "depths": (1, 2, 1, 1), "heads": (1, 2, 3, 4)},
    {"embed_dim": 24, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 3, 4)},
)
SHALLOW = {"depth": 2}, {"depth": 2}
SMALL = {
    "vit": {"Ti/16": SHALLOW, "S/16": SHALLOW},
    "swin": {"swin_t": NARROW, "swinv2_t": NARROW, "swinv2_b": NARROW},
    "pvt": {"pvt_v2_b0": ({"depths": (1, 1, 2, 1)}, {"depths": (1, 1, 2, 1)})},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for key, variants in SMALL.items():
        for variant, (ours, _) in variants.items():
            monkeypatch.setitem(TABLES[key], variant, {**TABLES[key][variant], **ours})


@pytest.fixture
def listed(monkeypatch):
    """List a checkpoint as if it had been looked up on the loopback hub, or, without ``pinned``, not yet."""

    def relist(repo=TINY, *, pinned=True, sha256=None):
        entry = dataclasses.replace(checkpoints()[repo], revision=COMMIT if pinned else None, sha256=sha256)
        monkeypatch.setitem(checkpoints(), repo, entry)
        return entry

    return relist


def randomised(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    return model.eval()


def served(hub, model, repo=TINY, layout="timm"):
    hub.files[repo] = {"model.safetensors": save(to_layout(model, layout))}
    return model


def images(*size, batch=2, channels=3):
    return torch.randn(batch, channels, *(size or (224, 224)))


def test_the_list_names_variants_that_exist_and_every_repository_once():
    found = list(checkpoints().values())
    assert len(found) >= 60
    for checkpoint in found:
        assert checkpoint.variant in TABLES[checkpoint.key], checkpoint
        assert checkpoint.revision is None or len(checkpoint.revision) == 40
        assert checkpoint.sha256 is None or len(checkpoint.sha256) == 64
    assert sum(file.read_text().count("repo: ") for file in lists().values()) == len(found)


def test_the_list_agrees_with_timm_on_classes_sizes_and_inputs():
    import timm

    for checkpoint in checkpoints().values():
        if not checkpoint.repo.startswith("timm/"):
            continue
        theirs = timm.get_pretrained_cfg(checkpoint.repo.removeprefix("timm/"))
        assert theirs.num_classes == (checkpoint.classes or 0), checkpoint
        assert (theirs.mean, theirs.std) == (checkpoint.input.mean, checkpoint.input.std), checkpoint
        assert (theirs.crop_pct, theirs.interpolation) == (checkpoint.input.crop, checkpoint.input.interpolation)
        with torch.device("meta"):
            model = FACTORIES[checkpoint.key](checkpoint.variant, **checkpoint.build)
            if checkpoint.resize:
                model.resize(**checkpoint.resize)
        patches = getattr(getattr(model, "encoder", model), "patches", None)
        assert patches or checkpoint.key in ("pvt", "twins"), "pyramids take any size"
        if patches is not None:
            assert patches.image_size == theirs.input_size[1:], checkpoint


@pytest.mark.parametrize(
    ("key", "variant", "repo", "sizes"),
    [
        ("vit", "Ti/16", TINY, SHALLOW[1]),
        ("deit", "Ti/16 distilled", "timm/deit_tiny_distilled_patch16_224.fb_in1k", SHALLOW[1]),
        ("pvt", "pvt_v2_b0", "timm/pvt_v2_b0.in1k", {"depths": (1, 1, 2, 1)}),
        ("swin", "swin_t", "timm/swin_tiny_patch4_window7_224.ms_in1k", NARROW[1]),
        ("swin", "swinv2_t", "timm/swinv2_tiny_window8_256.ms_in1k", NARROW[1]),
    ],
)
def test_a_factory_gives_the_logits_of_the_model_that_is_published(hub, listed, monkeypatch, key, variant, repo, sizes):
    import timm

    theirs = randomised(timm.create_model(repo.removeprefix("timm/").split(".")[0], **sizes))
    hub.files[repo] = {"model.safetensors": save(theirs.state_dict())}
    listed(repo)
    ours = FACTORIES[key](variant, pretrained=True).eval()
    x = images(*theirs.pretrained_cfg["input_size"][1:], batch=1)
    assert (ours(x) - theirs(x)).abs().max() < 1e-5
    assert ours.checkpoint.repo == repo
    assert {path.split("/")[4] for _, path, _ in hub.requests if "resolve" in path} == {COMMIT}


def test_a_checkpoint_can_be_named_and_brings_its_size_and_classes(hub, listed):
    repo = "timm/vit_tiny_patch16_384.augreg_in21k_ft_in1k"
    model = served(hub, randomised(vit("Ti/16", image_size=384)), repo)
    listed(repo)
    ours = vit("Ti/16", pretrained=repo).eval()
    assert ours.patches.image_size == (384, 384)
    x = images(384, 384, batch=1)
    assert torch.equal(ours(x), model(x))


def test_a_model_tuned_to_larger_windows_is_made_as_it_was_trained(hub, listed):
    import timm

    repo = "timm/swinv2_base_window12to16_192to256.ms_in22k_ft_in1k"
    theirs = randomised(timm.create_model("swinv2_base_window12to16_192to256", **NARROW[1]))
    hub.files[repo] = {"model.safetensors": save(theirs.state_dict())}
    assert listed(repo).resize == {"image_size": 256, "window": 16}
    ours = swin("swinv2_b", pretrained=repo).eval()
    x = images(256, 256, batch=1)
    assert (ours(x) - theirs(x)).abs().max() < 1e-5


def test_other_classes_get_a_new_head_and_leave_the_rest(hub, listed):
    model = served(hub, randomised(vit("Ti/16")))
    listed()
    ours = vit("Ti/16", pretrained=True, num_classes=7).eval()
    assert ours.head.weight.shape == (7, 192)
    assert 0.01 < ours.head.weight.std() < 0.03
    assert not ours.head.bias.any()
    headless = vit("Ti/16", pretrained=True, num_classes=None).eval()
    x = images()
    assert torch.equal(ours.tokens(x), model.tokens(x))
    assert torch.equal(headless(x), model.pooling(model.tokens(x)))
    assert torch.equal(vit("Ti/16", pretrained=True, num_classes=1000).eval()(x), model(x))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_are_adapted_as_timm_does_it(hub, listed, channels):
    import timm
    from timm.models._manipulate import adapt_input_conv

    model = served(hub, randomised(vit("Ti/16")))
    listed()
    ours = vit("Ti/16", pretrained=True, channels=channels).eval()
    theirs = timm.create_model("vit_tiny_patch16_224", in_chans=channels, depth=2).eval()
    state = to_timm(model)
    state["patch_embed.proj.weight"] = adapt_input_conv(channels, state["patch_embed.proj.weight"])
    theirs.load_state_dict(state)
    x = images(channels=channels)
    assert (ours(x) - theirs(x)).abs().max() < 1e-5


def test_grey_in_one_channel_gives_what_it_gave_in_three(hub, listed):
    model = served(hub, randomised(pvt("pvt_v2_b0")), "timm/pvt_v2_b0.in1k")
    listed("timm/pvt_v2_b0.in1k")
    grey = images(channels=1)
    ours = pvt("pvt_v2_b0", pretrained=True, channels=1).eval()
    assert torch.allclose(ours(grey), model(grey.expand(-1, 3, -1, -1)), atol=1e-5)


@pytest.mark.parametrize(
    ("key", "variant", "repo", "size", "options"),
    [
        ("vit", "Ti/16", TINY, (160, 240), {}),
        ("deit", "Ti/16 distilled", "timm/deit_tiny_distilled_patch16_224.fb_in1k", (160, 240), {}),
        ("swin", "swin_t", "timm/swin_tiny_patch4_window7_224.ms_in1k", (192, 256), {"window": 8}),
    ],
)
def test_another_size_is_what_resize_makes_of_the_model(hub, listed, key, variant, repo, size, options):
    model = served(hub, randomised(FACTORIES[key](variant)), repo)
    listed(repo)
    ours = FACTORIES[key](variant, pretrained=True, image_size=size, **options).eval()
    x = images(*size, batch=1)
    assert torch.equal(ours(x), model.resize(size, **options)(x))


@pytest.mark.parametrize("options", [{"patch": 8}, {"heads": 2}, {"depth": 3}, {"pooling": nn.Identity}])
def test_what_weights_are_not_for_is_refused_before_anything_is_fetched(hub, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} cannot be changed"):
        vit("Ti/16", pretrained=True, **options)
    assert hub.requests == []


def test_a_local_file_or_a_state_dict_in_any_layout_will_do(tmp_path):
    model = randomised(vit("Ti/16", image_size=96, num_classes=13))
    x = images(96, 96)
    for layout in ("timm", "transformers", "the authors"):
        state = to_layout(model, layout)
        assert torch.equal(vit("Ti/16", pretrained=state).eval()(x), model(x)), layout
    save_file(to_timm(model), tmp_path / "a.safetensors")
    torch.save({"model": {f"module.{k}": v for k, v in to_timm(model).items()}, "epoch": 3}, tmp_path / "a.pth")
    import numpy as np

    np.savez(tmp_path / "a.npz", **{k: v.numpy() for k, v in to_layout(model, "the authors").items()})
    torch.save(model.state_dict(), tmp_path / "own.pt")
    for name in ("a.safetensors", "a.pth", "a.npz", "own.pt"):
        ours = vit("Ti/16", pretrained=tmp_path / name).eval()
        assert torch.equal(ours(x), model(x)), name
        assert ours.checkpoint is None


def test_weights_of_no_square_want_to_be_told_their_size():
    model = randomised(vit("Ti/16", image_size=(64, 96)))
    x = images(64, 96)
    assert torch.equal(vit("Ti/16", pretrained=to_timm(model), image_size=(64, 96)).eval()(x), model(x))
    with pytest.raises(
        ValueError, match=r"of 24 patches, but 224 x 224 pixels make 14 x 14: give as image_size .* such as \(64, 96\)"
    ):
        vit("Ti/16", pretrained=to_timm(model))


def test_the_second_time_nothing_is_asked_of_the_hub(hub, listed):
    served(hub, randomised(vit("Ti/16")))
    listed()
    vit("Ti/16", pretrained=True)
    before = len(hub.requests)
    assert before
    hub.fault = "down"
    vit("Ti/16", pretrained=True)
    assert len(hub.requests) == before


def test_an_older_file_of_pytorch_is_taken_where_there_is_no_other(hub, listed):
    model, file = randomised(vit("Ti/16")), io.BytesIO()
    torch.save(to_layout(model, "transformers"), file)
    hub.files["google/vit-base-patch16-224"] = {"pytorch_model.bin": file.getvalue()}
    entry = dataclasses.replace(listed("google/vit-base-patch16-224"), variant="Ti/16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(checkpoints(), entry.repo, entry)
        ours = vit("Ti/16", pretrained=entry.repo).eval()
    x = images()
    assert torch.equal(ours(x), model(x))


@pytest.mark.parametrize("fault", ["down", "truncated", "hangs", "tampered"])
def test_a_fault_on_the_way_is_one_clear_error_and_leaves_the_cache_sound(hub, listed, fault):
    model = served(hub, randomised(vit("Ti/16")))
    listed()
    hub.fault = fault
    with pytest.raises(HubError, match=TINY) as error:
        vit("Ti/16", pretrained=True)
    assert "\n" not in str(error.value)
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    assert not [p for p in cache.rglob("*") if p.is_file() and "snapshots" in p.parts]
    hub.fault = None
    ours = vit("Ti/16", pretrained=True).eval()
    x = images()
    assert torch.equal(ours(x), model(x))


def test_a_file_changed_in_the_cache_is_found_out_and_fetched_anew(hub, listed):
    model = served(hub, randomised(vit("Ti/16")))
    path = fetch(listed()).resolve()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(HubError, match="checksum"):
        vit("Ti/16", pretrained=True)
    x = images()
    assert torch.equal(vit("Ti/16", pretrained=True).eval()(x), model(x))


def test_a_file_that_is_not_the_listed_one_is_refused(hub, listed):
    served(hub, randomised(vit("Ti/16")))
    listed(sha256="0" * 64)
    with pytest.raises(HubError, match=r"not 000000000000\.\.\."):
        vit("Ti/16", pretrained=True)


def test_no_network_is_said_at_once(monkeypatch, tmp_path, listed):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    listed()
    with pytest.raises(HubError, match=r"does not answer.*HF_ENDPOINT to a mirror, or give the path of a file"):
        vit("Ti/16", pretrained=True)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_repository_or_a_revision_that_is_gone_is_named(hub, listed, pinned):
    entry = listed(pinned=pinned)
    with pytest.raises(HubError, match=f"has no {TINY} at"):
        fetch(entry)
    served(hub, randomised(vit("Ti/16")))
    with pytest.raises(HubError, match=r"has no .* at 1111"):
        fetch(dataclasses.replace(entry, revision="1" * 40))
    hub.files[TINY] = {"README.md": b"nothing"}
    with pytest.raises(HubError, match=r"none of model\.safetensors, pytorch_model\.bin"):
        fetch(entry)


@pytest.mark.parametrize(
    ("other", "message"),
    [(lambda: vit("S/16"), r"\(1, 197, 384\)"), (lambda: pvt("pvt_v2_b0"), r"no blocks\.0")],
    ids=["another width", "another family"],
)
def test_weights_of_another_model_are_refused(hub, listed, other, message):
    served(hub, other())
    listed()
    with pytest.raises(ValueError, match=rf"{TINY} does not fit vit 'Ti/16'.*{message}"):
        vit("Ti/16", pretrained=True)


def test_an_unknown_name_lists_the_known_ones_and_another_models_weights_are_named_as_such():
    with pytest.raises(ValueError, match=f"unknown weights 'augreg'.*{TINY}"):
        find("vit", "Ti/16", "augreg")
    with pytest.raises(ValueError, match=r"unknown weights .*: timm/vit_tiny_patch16_224\.augreg_in21k_ft_in1k"):
        find("vit", "B/16", TINY.replace("tiny", "tny"))
    with pytest.raises(ValueError, match="holds weights of vit 'Ti/16', not of vit 'B/16'"):
        find("vit", "B/16", TINY)
    with pytest.raises(
        ValueError, match=r"nobody has published weights of swin 'swinv2_g' .*; there are those of swin_b, "
    ):
        swin("swinv2_g", pretrained=True)


class Bomb:
    def __reduce__(self):
        return (Path("/tmp/attention-notes-was-here").touch, ())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", ["zip", "legacy", "bare"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, protocol):
    path, trace = tmp_path / "model.bin", Path("/tmp/attention-notes-was-here")
    if protocol == "bare":
        path.write_bytes(pickle.dumps({"head.weight": Bomb()}))
    else:
        torch.save({"head.weight": Bomb()}, path, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(ValueError, match=r"model\.bin holds more than tensors|model\.bin is damaged"):
        vit("Ti/16", pretrained=path)
    assert not trace.exists()


def damaged(tmp_path):
    whole = save({"a": torch.zeros(3)})
    (tmp_path / "short.safetensors").write_bytes(whole[:-4])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "words.bin").write_bytes(b"<html>404</html>")
    (tmp_path / "words.npz").write_bytes(b"<html>404</html>")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "cut.pth")
    content = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as file:
        file.writestr("hello.txt", "hello")
    import numpy as np

    np.savez(tmp_path / "objects.npz", cls=np.array([Bomb()], dtype=object))
    return sorted(path for path in tmp_path.iterdir())


def test_a_damaged_file_is_named_and_refused(tmp_path):
    paths = damaged(tmp_path)
    assert len(paths) == 10
    for path in paths:
        with pytest.raises(ValueError, match=path.name):
            read_weights(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_weights(tmp_path / "nowhere.bin")
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        read_weights(tmp_path)


def test_the_token_and_the_mirror_of_the_environment_are_used(hub, listed, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    served(hub, randomised(vit("Ti/16")))
    fetch(listed())
    assert {token for _, path, token in hub.requests if "resolve" in path} == {"Bearer hf_secret"}


def test_the_list_is_compared_with_the_hub_without_fetching_the_weights(hub, listed):
    served(hub, randomised(vit("Ti/16")))
    wrong, found = problems(listed())
    assert wrong == []
    assert found["revision"] == COMMIT
    assert len(found["sha256"]) == 64
    wrong, _ = problems(listed(sha256="0" * 64))
    assert len(wrong) == 1
    assert "the checksum is" in wrong[0]
    served(hub, randomised(vit("Ti/16", num_classes=999)))
    wrong, _ = problems(listed())
    assert "head.weight (999, 192)" in wrong[0]
    hub.fault = "down"
    with pytest.raises(HubError):
        problems(listed())


def rows_of(papers):
    """The rows of all lists below a folder, by repository."""
    listed = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(papers.glob("*/checkpoints.yml"))]
    return {row["repo"]: row for variants in listed for rows in variants.values() for row in rows}


def test_what_the_hub_has_can_be_written_into_the_lists(tmp_path):
    for key, file in lists().items():
        (tmp_path / key).mkdir()
        (tmp_path / key / "checkpoints.yml").write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    was = rows_of(tmp_path)
    found = {}
    for checkpoint in checkpoints().values():
        found.setdefault(checkpoint.key, {})[checkpoint.repo] = {"revision": COMMIT, "sha256": "5e" * 32}
    pin_lists(tmp_path, found)
    after = rows_of(tmp_path)
    loose = [repo for repo, row in was.items() if "revision" not in row]
    assert loose
    assert all(after[repo]["revision"] == COMMIT and after[repo]["sha256"] == "5e" * 32 for repo in loose)
    assert all(after[repo] == row for repo, row in was.items() if repo not in loose), "what is pinned stays"
    assert {r: {k: v for k, v in row.items() if k not in ("revision", "sha256")} for r, row in after.items()} == {
        r: {k: v for k, v in row.items() if k not in ("revision", "sha256")} for r, row in was.items()
    }
    assert not [*tmp_path.rglob("*.part")]
    with pytest.raises(ValueError, match=r"no list at .*give the folder of a checkout"):
        pin_lists(tmp_path / "elsewhere", found)


def test_faults_of_the_loopback_hub_are_real(hub):
    """Each leaves something other than the file, or the tests above show nothing."""
    import urllib.error
    import urllib.request

    hub.files["a/b"] = {"model.safetensors": bytes(range(256)) * 9}
    address = f"{hub.url}/a/b/resolve/main/model.safetensors"
    assert urllib.request.urlopen(address).read() == bytes(range(256)) * 9
    for fault in Hub.FAULTS:
        hub.fault = fault
        with pytest.raises((urllib.error.HTTPError, OSError, AssertionError, Exception)):
            assert urllib.request.urlopen(address, timeout=0.3).read() == bytes(range(256)) * 9


def test_every_variant_of_vit_has_weights():
    assert {c.variant for c in checkpoints().values() if c.key == "vit"} == set(TABLES["vit"])
