"""The toolkit's plain list of image files, for plug-ins written for it; our own data sets go through `data.readers`."""
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

from duiit.data.readers.walk import IMAGE_ENDINGS, list_files
from duiit.util.errors import UserError
from duiit.util.files import natural_key

IMG_EXTENSIONS = sorted({*IMAGE_ENDINGS, *(ending.upper() for ending in IMAGE_ENDINGS)})


def is_image_file(filename: str) -> bool:
    """Whether the name ends as a PNG, JPEG, TIFF, BMP or PNM image's does."""
    return str(filename).lower().endswith(IMAGE_ENDINGS)


def make_dataset(dir: str, max_dataset_size: float = float("inf")) -> list[str]:  # noqa: A002 (the toolkit's name)
    """Paths of the images below `dir` in natural order (2 before 10), cut to the first `max_dataset_size`.

    Raises UserError where `dir` is no folder.
    """
    folder = Path(dir)
    if not folder.is_dir():
        raise UserError(f"{dir}: is not a folder; check the path")
    images = sorted((path for path in list_files(folder) if is_image_file(path.name)), key=natural_key)
    return [str(path) for path in images[:int(min(max_dataset_size, len(images)))]]


def default_loader(path: str) -> "Image":
    """The image as RGB, as the toolkit loads it."""
    from PIL import Image
    return Image.open(path).convert("RGB")
