import io
import random

import pytest
import torch

from duiit.util.image_pool import ImagePool


def numbered(*values):
    """Images that carry their number in each pixel: (N, 1, 2, 2)."""
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1).repeat(1, 1, 2, 2)


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def test_size_zero_hands_the_tensor_itself_back():
    images = numbered(1, 2)
    assert ImagePool(0).query(images) is images


def test_images_pass_until_the_pool_is_full():
    pool = ImagePool(3)
    assert numbers(pool.query(numbered(1, 2))) == [1, 2]
    assert numbers(pool.query(numbered(3))) == [3]
    assert numbers(torch.cat(pool.images)) == [1, 2, 3]


@pytest.mark.parametrize(("draw", "handed_out", "kept"), [(0.51, [20], [10, 7, 30]), (0.5, [7], [10, 20, 30])])
def test_a_full_pool_swaps_on_the_upper_half_of_the_draw(monkeypatch, draw, handed_out, kept):
    monkeypatch.setattr(random, "uniform", lambda low, high: draw)
    monkeypatch.setattr(random, "randint", lambda low, high: 1)
    pool = ImagePool(3)
    pool.query(numbered(10, 20, 30))
    assert numbers(pool.query(numbered(7))) == handed_out
    assert numbers(torch.cat(pool.images)) == kept


def test_about_half_are_swapped_and_none_is_lost():
    random.seed(0)
    pool = ImagePool(50)
    out = [number for start in range(0, 2000, 8) for number in numbers(pool.query(numbered(*range(start, start + 8))))]
    late = sum(number != position for position, number in enumerate(out))
    assert 0.45 < late / 1950 < 0.55
    # All came out or are still inside; the first fifty, handed through while the pool filled, did both.
    assert sorted(out + numbers(torch.cat(pool.images))) == sorted([*range(2000), *range(50)])


def test_the_global_seed_decides_unless_the_pool_has_its_own():
    def run(pool, seed):
        random.seed(seed)
        return [numbers(pool.query(numbered(i, i + 0.5))) for i in range(40)]

    assert run(ImagePool(4), 1) == run(ImagePool(4), 1) != run(ImagePool(4), 2)
    assert run(ImagePool(4, seed=9), 1) == run(ImagePool(4, seed=9), 2)


def test_what_comes_out_is_cut_off_from_the_graph_and_from_the_batch():
    source = numbered(1, 2).requires_grad_()
    images = source * 1
    pool = ImagePool(2)
    assert not pool.query(images).requires_grad
    images.data.zero_()
    assert numbers(torch.cat(pool.images)) == [1, 2]
    assert pool.images[0].untyped_storage().nbytes() == 4 * 4  # one image, not the batch


@pytest.mark.parametrize("seed", [None, 3])
def test_a_saved_pool_goes_on_as_if_it_had_not_stopped(seed):
    def drive(pool, start):
        return [numbers(pool.query(numbered(i, i + 0.5))) for i in range(start, start + 30)]

    random.seed(4)
    pool = ImagePool(5, seed)
    drive(pool, 0)
    file, global_state = io.BytesIO(), random.getstate()
    torch.save(pool.state_dict(), file)
    expected = drive(pool, 30)

    file.seek(0)
    resumed = ImagePool(5, seed)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    random.setstate(global_state)
    assert drive(resumed, 30) == expected


def test_a_smaller_pool_keeps_the_first_images_of_a_larger_one():
    large, small = ImagePool(4), ImagePool(2)
    large.query(numbered(1, 2, 3, 4))
    small.load_state_dict(large.state_dict())
    assert numbers(torch.cat(small.images)) == [1, 2]
