"""Multi-task learning: which loss teaches which head, with which weight, in which label units."""
import copy

import numpy as np
import pytest
import torch

from duiit.data import create_dataset
from duiit.models import create_model
from duiit.util.errors import UserError
from duiit.util.facts import Facts

MRI = "--model multitask --sources mri"


@pytest.fixture
def on_a_batch(make):
    """on_a_batch(words) -> (model, loader) with the first batch in the model, all of it labelled."""
    def build(words, **values):
        model, loader = make(words, **values)
        model.set_input(next(iter(loader)))
        model.labels = [torch.where(x.isnan(), 33.0, x) for x in model.labels]
        return model, loader
    return build


def training_labels(loader, modality):
    return [r.label for r in loader.dataset.members[modality].rows if r.label is not None]


# ---- gradients ------------------------------------------------------------------------------------------------------

def test_the_trunk_learns_from_both_losses_by_their_weights(on_a_batch):
    model, _ = on_a_batch(f"{MRI} --weight_target 0.7 --weight_source 0.2")
    netP, netH = copy.deepcopy(model.netP), copy.deepcopy(model.netH)
    features = netP.features(torch.cat([model.real_B, model.real_A]))
    errors = netP.answer(features[:2]) - model.labels[0], netH(features[2:]) - model.labels[1]
    target, source = (e.square().mean() for e in errors)
    trunk = list(netP.backbone.parameters())
    of_target, of_source = (torch.autograd.grad(loss, trunk, retain_graph=True) for loss in (target, source))
    model.optimize_parameters()
    assert model.loss_P_target.item() == pytest.approx(target.item())
    assert model.loss_P_source.item() == pytest.approx(source.item())
    assert model.loss_P.item() == pytest.approx((0.7 * target + 0.2 * source).item())
    for mine, t, s in zip(model.netP.backbone.parameters(), of_target, of_source, strict=True):
        torch.testing.assert_close(mine.grad, 0.7 * t + 0.2 * s, rtol=1e-3, atol=1e-3 * float(mine.grad.abs().max()))


@pytest.mark.parametrize(("silent", "taught"), [("target", "H"), ("source", "P")])
def test_a_head_learns_from_its_own_modality_only(on_a_batch, silent, taught):
    model, _ = on_a_batch(f"{MRI} --weight_{silent} 0")
    model.optimize_parameters()
    reached = {n: float(model.net(n).head.weight.grad.abs().sum()) > 0 for n in ("P", "H")}
    assert reached == {n: n == taught for n in ("P", "H")}
    assert model.netP.backbone.conv1.weight.grad.abs().sum() > 0


def test_the_papers_weights_are_the_defaults(options):
    opt = options(MRI)
    assert (opt.weight_source, opt.weight_target) == (0.05, 0.95)


def test_images_without_a_label_teach_nothing(on_a_batch):
    model, _ = on_a_batch(MRI)
    model.labels = [torch.full((2,), float("nan"))] * 2
    model.optimize_parameters()
    assert model.loss_P.item() == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in model.netP.parameters())


def test_source_and_target_images_are_one_batch_to_the_trunk(on_a_batch):
    model, _ = on_a_batch(MRI)
    model.optimize_parameters()
    norm = model.netP.backbone.bn1
    assert int(norm.num_batches_tracked) == 1
    seen = torch.cat([model.real_B, model.real_A])
    fresh = create_model(model.opt).netP
    mean = fresh.backbone.conv1(seen).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.1 * mean, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_both_tasks_are_learned(on_a_batch):
    model, _ = on_a_batch(f"{MRI} --weight_source 0.5 --weight_target 0.5 --lr 0.001")
    losses = []
    for _ in range(12):
        model.optimize_parameters()
        losses.append((model.loss_P_target.item(), model.loss_P_source.item()))
    assert losses[-1][0] < losses[0][0] / 2
    assert losses[-1][1] < losses[0][1] / 2


# ---- heads ----------------------------------------------------------------------------------------------------------

def test_each_head_has_the_units_of_its_own_cohort(make):
    model, loader = make("--model multitask --sources mri,pet")
    for net, modality in ((model.netP, "ct"), (model.netH_mri, "mri"), (model.netH_pet, "pet")):
        labels = training_labels(loader, modality)
        assert float(net.label_mean) == pytest.approx(np.mean(labels))
        assert float(net.label_std) == pytest.approx(np.std(labels))


def test_of_several_sources_the_mean_loss_counts(on_a_batch):
    model, _ = on_a_batch("--model multitask --sources mri,pet --weight_target 0 --weight_source 1")
    netP, heads = copy.deepcopy(model.netP), [copy.deepcopy(model.netH_mri), copy.deepcopy(model.netH_pet)]
    features = netP.features(torch.cat([model.real_B, model.real_A_mri, model.real_A_pet])).chunk(3)[1:]
    losses = [(h(f) - r).square().mean() for h, f, r in zip(heads, features, model.labels[1:], strict=True)]
    model.optimize_parameters()
    assert model.loss_P.item() == pytest.approx((sum(losses) / 2).item())


def test_in_use_it_is_an_ordinary_predictor(make):
    model, loader = make(f"{MRI} --lr 0.001")
    model.save_networks("latest")
    model.opt.isTrain = False
    used = create_model(model.opt)
    used.setup(model.opt)
    used.eval()
    assert used.model_names == ["P"]
    plain = create_model(type(model.opt)(**{**vars(model.opt), "model": "predictor"}))
    plain.setup(model.opt)
    plain.eval()
    images = next(iter(loader))["B"]
    assert torch.equal(used.predictor()(images), plain.predictor()(images))


def test_classes(dataroot, options, tmp_path):
    opt = options(f"{MRI} --task classification", facts=Facts(
        classes=("a", "b", "c"), labels_known=4, label_stats={"ct": {"known": 2}, "mri": {"known": 2}}))
    model = create_model(opt)
    model.set_input({"A": torch.rand(2, 1, 32, 32), "A_label": torch.tensor([0, -1]), "A_paths": ["a", "b"],
                     "B": torch.rand(2, 1, 32, 32), "B_label": torch.tensor([2, 1]), "B_paths": ["c", "d"]})
    model.setup(opt)
    model.optimize_parameters()
    assert model.loss_P.item() > 0
    assert model.netH.head.out_features == model.netP.head.out_features == 3


def test_backwards_the_letters_change(options):
    opt = options(MRI, direction="BtoA", facts=Facts(
        label_stats={m: {"known": 1, "mean": 0.0, "std": 1.0} for m in ("ct", "mri")}, labels_known=2))
    model = create_model(opt)
    model.set_input({"A": torch.zeros(2, 1, 32, 32), "A_label": torch.zeros(2), "A_paths": ["a"],
                     "B": torch.ones(2, 1, 32, 32), "B_label": torch.ones(2), "B_paths": ["b"]})
    assert model.real_B.max() == 0 and model.real_A.min() == 1
    assert model.labels[0].tolist() == [0, 0]


# ---- what cannot work -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("words", "message"), [
    ("--weight_source -1", "--weight_source: -1 is out of range, it must be at least 0"),
    ("--weight_target -0.5", "--weight_target: -0.5 is out of range"),
    ("--input_nc 3", "--input_nc 3 and --output_nc 1: source and target"),
    ("--dataset_mode labelled", "--dataset_mode labelled: has no source images.*cross_modality")])
def test_what_cannot_work_is_refused(make, words, message):
    with pytest.raises(UserError, match=message):
        make(f"--model multitask {words}" + (" --sources mri" if "labelled" not in words else ""))


def test_a_modality_without_labels_is_refused(options):
    opt = options(MRI)
    create_dataset(opt)
    opt.facts.label_stats["mri"]["known"] = 0
    with pytest.raises(UserError, match="mri: no training image has a label.*--sources"):
        create_model(opt)


def test_images_of_other_sizes_do_not_go_together(make):
    model, _ = make(f"{MRI} --preprocess none")
    model.set_input({"A": torch.zeros(2, 1, 36, 36), "A_label": torch.zeros(2), "A_paths": ["a"],
                     "B": torch.ones(2, 1, 40, 36), "B_label": torch.ones(2), "B_paths": ["b"]})
    with pytest.raises(UserError, match="--preprocess none: source and target images of other sizes"):
        model.optimize_parameters()
