"""The two networks: what goes in and out, and what explanation methods rely on."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from training.networks.mnist_gan import CLASSES, LATENT, Discriminator, Generator


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(8, 16)


@pytest.fixture
def discriminator() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(4, 8)


def test_a_generator_draws_pixels(generator: Generator) -> None:
    images = generator(torch.randn(7, LATENT) * 100, torch.arange(7)).detach()
    assert images.shape == (7, 1, 28, 28)
    assert images.dtype == torch.float32
    assert 0 <= float(images.min()) < 127.5 < float(images.max()) <= 255


def test_in_eval_mode_a_digit_is_the_same_alone_and_among_others(generator: Generator) -> None:
    latent, label = torch.randn(6, LATENT), torch.arange(6)
    generator(latent, label)  # statistics that are not the initial ones
    generator.eval()
    alone = torch.cat([generator(latent[k : k + 1], label[k : k + 1]) for k in range(6)])
    torch.testing.assert_close(generator(latent, label), alone, rtol=1e-5, atol=1e-3)


def test_the_class_is_heard(generator: Generator, discriminator: Discriminator) -> None:
    generator.eval()
    latent = torch.randn(1, LATENT).expand(CLASSES, LATENT)
    images = generator(latent, torch.arange(CLASSES))
    assert len({tuple(image.flatten().tolist()) for image in images}) == CLASSES
    logits = discriminator(images[:1].expand(CLASSES, 1, 28, 28), torch.arange(CLASSES))
    assert len(set(logits.flatten().tolist())) == CLASSES


def test_a_class_that_does_not_exist_is_an_error(generator: Generator) -> None:
    with pytest.raises(IndexError):
        generator.eval()(torch.randn(1, LATENT), torch.tensor([10]))


def test_the_discriminator_projects_its_features_on_the_classs_direction(discriminator: Discriminator) -> None:
    """logit(c) = (w + v_c).h + b (Miyato & Koyama 2018), with h as a hook sees it."""
    features: list[Tensor] = []
    discriminator.relu4.register_forward_hook(lambda _module, _inputs, output: features.append(output.detach()))
    label = torch.tensor([3, 8, 3])
    logits = discriminator(torch.rand(3, 1, 28, 28) * 255, label)
    weights = discriminator.real.weight + discriminator.directions.weight.T[label]  # (3, hidden)
    expected = torch.einsum("nh,nh->n", weights, features[0]) + discriminator.real.bias
    torch.testing.assert_close(logits[:, 0], expected)


@pytest.mark.parametrize("network", [Generator(4, 8), Discriminator(4, 8)], ids=["generator", "discriminator"])
def test_activations_are_modules_of_torch_itself_each_used_once(network: nn.Module) -> None:
    """DeepLIFT is silently wrong with a subclass and refuses a module that is used twice."""
    used: Counter[nn.Module] = Counter()
    for module in network.modules():
        if "activation" in type(module).__module__:
            assert type(module) in (nn.ReLU, nn.LeakyReLU, nn.Tanh)
            used[module] = 0
            module.register_forward_hook(lambda module, _inputs, _output: used.update([module]))
    network.eval()(*((torch.zeros(1, LATENT),) if isinstance(network, Generator) else (torch.zeros(1, 1, 28, 28),)), torch.tensor([1]))
    assert len(used) == 4
    assert set(used.values()) == {1}
