"""What `duiit test` does for a model or a data set of the user's own (a plug-in), of which nothing more is known than
the toolkit's contract: every image of the part through `model.test()`, and what the model shows of it onto a page.
"""
import logging
from argparse import Namespace
from pathlib import Path

from duiit.data import create_dataset, find_dataset_using_name
from duiit.models import create_model, find_model_using_name
from duiit.models.base_model import BaseModel
from duiit.util.errors import UserError
from duiit.util.files import atomic_folder
from duiit.util.html import HTML
from duiit.util.progress import track
from duiit.util.visualizer import save_images

log = logging.getLogger(__name__)
# What files written for the toolkit may read although it belongs to training, with values that change nothing.
OF_TRAINING = {"n_epochs": 0, "n_epochs_decay": 0, "lr_policy": "linear", "gan_mode": "lsgan", "pool_size": 0}


def is_needed(opt: Namespace) -> bool:
    """True where `opt` names a model without a translator and a predictor, or a data set without parts."""
    model, dataset = find_model_using_name(opt.model), find_dataset_using_name(opt.dataset_mode)
    return not any(hasattr(model, what) for what in ("translator", "predictor")) or not hasattr(dataset, "target_part")


def test(opt: Namespace) -> int:
    settle(opt)
    dataset = create_dataset(opt)
    if not len(dataset):
        raise UserError(f"--phase {opt.phase}: {opt.dataroot} has no image in this part")
    model = ready(create_model(opt), opt)
    where = Path(opt.results_dir) / opt.name / f"{opt.phase}_{opt.epoch}"
    total = int(min(len(dataset), opt.num_test))
    with atomic_folder(where, force=True) as folder:
        page = HTML(folder, f"{opt.name}: {opt.phase} images, {opt.epoch}")
        for number, batch in enumerate(track(dataset, "testing", total=total)):
            if number >= total:
                break
            model.set_input(batch)
            model.test()
            paths = model.get_image_paths()
            save_images(page, model.get_current_visuals(), paths, opt.aspect_ratio, opt.display_winsize,
                        name=_name(paths[0], opt.dataroot) if paths else f"{number + 1:05d}")
        page.save()
    log.info("%d images, results are in %s", total, where / "index.html")
    return 0


vars(test)["__test__"] = False


def settle(opt: Namespace) -> None:
    """As the toolkit tests: image by image, in order, unflipped, and at --crop_size instead of a random crop of
    --load_size."""
    opt.batch_size, opt.num_threads, opt.serial_batches, opt.no_flip = 1, 0, True, True
    opt.load_size = opt.crop_size
    for name, value in OF_TRAINING.items():
        vars(opt).setdefault(name, value)


def ready(model: BaseModel, opt: Namespace) -> BaseModel:
    """The model with its weights. As in the toolkit, dropout and batch statistics act as in training unless --eval is
    given: pix2pix has no other noise. A predictor never works so."""
    model.setup(opt)
    if opt.eval:
        model.eval()
    elif hasattr(model, "predictor"):
        model.predictor().eval()
    return model


def _name(path: str, dataroot: str) -> str:
    """An image's own place below the data folder, so that equal names in different folders do not collide."""
    path = Path(path)
    inside = path.is_relative_to(dataroot)
    return (path.relative_to(dataroot) if inside else Path(path.name)).with_suffix("").as_posix()
