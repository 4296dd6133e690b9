import torch

from duiit.models import networks


def test_a_head_answers_in_its_own_label_units():
    head = networks.LabelHead(3, label_mean=60.0, label_std=8.0)
    with torch.no_grad():
        head.head.weight.copy_(torch.tensor([[1.0, 0.0, -1.0]]))
        head.head.bias.fill_(0.5)
    assert head(torch.tensor([[2.0, 9.0, 1.0], [0.0, 9.0, 0.5]])).tolist() == [60 + 8 * 1.5, 60.0]


def test_units_travel_in_the_state_dict():
    fresh = networks.LabelHead(3)
    fresh.load_state_dict(networks.LabelHead(3, label_mean=60.0, label_std=8.0).state_dict())
    assert (fresh.label_mean.item(), fresh.label_std.item()) == (60, 8)


def test_a_head_of_classes_answers_with_logits():
    assert networks.LabelHead(3, num_classes=4)(torch.zeros(2, 3)).shape == (2, 4)


def test_a_predictor_is_its_features_and_its_head():
    net = networks.define_P("resnet10", 1, label_mean=60.0, label_std=8.0).eval()
    images = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(5))
    assert torch.equal(net.answer(net.features(images)), net(images))
