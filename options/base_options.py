"""The options that every command shares.

Each is declared once, here or in a subclass, on an argparse parser, so that models and data sets written for the
CycleGAN toolkit can add their own through `modify_commandline_options`. The command line is made from the same parser.
"""
from argparse import Namespace
from pathlib import Path

from duiit.options import presets, run_file
from duiit.options.command_options import CommandOptions
from duiit.options.parsing import ArgumentGroup, OptionParser
from duiit.util import threads
from duiit.util.bounds import COUNT, FRACTION, POSITIVE, SEED, WEIGHT, Bounded
from duiit.util.errors import UserError
from duiit.util.facts import Facts
from duiit.util.files import refuse_unwritable


class BaseOptions(CommandOptions):
    """Options of every command on images; subclasses add their own in `initialize`."""

    phase = "test"

    def initialize(self, parser: OptionParser) -> OptionParser:
        self._run(parser.add_argument_group("Run"))
        self._data(parser.add_argument_group("Data"))
        self._images(parser.add_argument_group("Images"))
        self._labels(parser.add_argument_group("Labels and splits"))
        self._networks(parser.add_argument_group("Networks"))
        return parser

    def _run(self, g: ArgumentGroup) -> None:
        g.add_argument("--name", default="experiment_name", help="name of the run: its folder under --checkpoints_dir")
        g.add_argument("--checkpoints_dir", default="./checkpoints", help="where the runs are kept")
        g.add_argument("--preset", help=f"a preset's name ({', '.join(presets.scales())}, or a method's, such as "
                                        "duiit_mri; completion lists them) or a .toml file of options")
        g.add_argument("--model", default="duiit",
                       help="duiit, cycle_gan, predictor, multitask, dann, or a plug-in's name")
        g.add_argument("--plugins", metavar="DIR",
                       help="folder with further models and data sets: models/foo_model.py, data/foo_dataset.py")
        g.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        g.add_argument("--gpu_ids", default="0", help="the GPU that --device auto takes, such as 0; -1 for the CPU")
        g.add_argument("--threads", type=COUNT, default=0,
                       help="threads to compute with on the CPU, in each process (0: OMP_NUM_THREADS, or one a core)")
        g.add_argument("--seed", type=SEED, default=0, help="seed of weights, batches and augmentation")
        g.add_argument("--verbose", action="store_true", help="print the networks and every step taken")
        g.add_argument("--suffix", default="", help="added to --name, such as {model}_{netG}_size{load_size}")
        g.add_argument("--epoch", default="latest", help="which weights to load: latest, best or an epoch's number")
        g.add_argument("--load_iter", type=COUNT, default=0, help="load the weights of this iteration, if above 0")

    @staticmethod
    def _data(g: ArgumentGroup) -> None:
        g.add_argument("--dataroot", help="folder with one folder a modality (mri, ct, …), or trainA/trainB/…")
        g.add_argument("--dataset_mode", default="unaligned",
                       help="cross_modality, labelled, unaligned, or a plug-in's name")
        g.add_argument("--sources", help="source modalities, with commas (default: every folder but the target)")
        g.add_argument("--target", default="ct", help="target modality: the folder whose labels are to be predicted")
        g.add_argument("--direction", default="AtoB", choices=["AtoB", "BtoA"], help="A is the source under AtoB")
        g.add_argument("--slices", default="all", help="slices of a volume to use: all, 0.3-0.8 (by height), every:N")
        g.add_argument("--keep_empty", action="store_true", help="keep constant and almost empty slices")
        g.add_argument("--max_dataset_size", type=Bounded(float, low=1), default=float("inf"),
                       help="use at most this many images")
        g.add_argument("--batch_size", type=POSITIVE, default=1, help="images a step (of each modality)")
        g.add_argument("--serial_batches", action="store_true", help="take the images in order, without shuffling")
        g.add_argument("--num_threads", type=COUNT, default=4,
                       help="processes that read files, in `data check` and for plug-in data sets (at most one a core)")
        g.add_argument("--cache_dir", help="where decoded images are kept (default: duiit in the user's cache folder)")

    @staticmethod
    def _images(g: ArgumentGroup) -> None:
        g.add_argument("--ct_window", default="brain",
                       help="HU window of CT: brain (40,120), bone (600,2800), full (-1024 to 3071), or LEVEL,WIDTH")
        g.add_argument("--pet_window", default="0,10", metavar="LOW,HIGH",
                       help="SUV window of PET where SUV are known: LOW,HIGH; or percentiles, which scale each scan by "
                            "its own range, as it is done with all PET without SUV")
        g.add_argument("--mri_channel", default="flair", choices=["pre", "flair", "post", "all"],
                       help="sequence of a three-channel MRI file (kaggle_3m)")
        g.add_argument("--preprocess", default="resize_and_crop",
                       choices=["resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "none"],
                       help="how an image is brought to the network's size")
        g.add_argument("--load_size", type=POSITIVE, default=286, help="resize images to this size (pixels) first")
        g.add_argument("--crop_size", type=POSITIVE, default=256, help="then crop to this size")
        g.add_argument("--spacing", type=WEIGHT, metavar="MM",
                       help="resample images to square pixels of so many mm, and pad or crop them to --load_size "
                            "instead of resizing them (default: resize, whatever their pixels are)")
        g.add_argument("--no_flip", action="store_true", help="no left-right flips while training")
        g.add_argument("--display_winsize", type=POSITIVE, default=256, help="size of shown images (pixels)")

    @staticmethod
    def _labels(g: ArgumentGroup) -> None:
        g.add_argument("--task", default="regression", choices=["regression", "classification"],
                       help="what a label is: a number, or the name of a class")
        g.add_argument("--label_column", help="column of the label in the labels table (default: label or age)")
        g.add_argument("--id_column", help="column of the patient, scan or file in the labels table")
        g.add_argument("--patient_regex", help="regular expression on relative paths; its first group is the patient")
        g.add_argument("--split_by", default="patient", choices=["patient", "image"],
                       help="patient: nobody stands on both sides; image: the paper's protocol")
        g.add_argument("--split_seed", type=SEED, default=0, help="seed of the train/val/test split")
        g.add_argument("--val_fraction", type=FRACTION, default=0.1,
                       help="share of the target's patients kept for validation")
        g.add_argument("--test_fraction", type=FRACTION, default=0.2,
                       help="share of the target's patients kept for testing")
        g.add_argument("--source_test_fraction", type=FRACTION, default=0.1,
                       help="share of each source's patients kept out of training, to look at")

    @staticmethod
    def _validation(g: ArgumentGroup) -> None:
        g.add_argument("--val_by", choices=["patient", "image"],
                       help="what an error of validation is of, by which the best epoch is chosen: a patient (the mean "
                            "answer to their images), or an image (default: as --split_by)")

    def _networks(self, g: ArgumentGroup) -> None:
        g.add_argument("--input_nc", type=POSITIVE, default=3, help="channels of a source image")
        g.add_argument("--output_nc", type=POSITIVE, default=3, help="channels of a target image")
        g.add_argument("--ngf", type=POSITIVE, default=64, help="features of the generator's last layer")
        g.add_argument("--ndf", type=POSITIVE, default=64, help="features of the discriminator's first layer")
        g.add_argument("--netG", default="resnet_9blocks",
                       help="generator: resnet_9blocks, resnet_6blocks, resnet_<n>blocks, unet_256 or unet_128")
        g.add_argument("--netD", default="basic", choices=["basic", "n_layers", "pixel"], help="discriminator")
        g.add_argument("--n_layers_D", type=POSITIVE, default=3, help="layers of an n_layers discriminator")
        g.add_argument("--norm", default="instance", choices=["instance", "batch", "none", "syncbatch"],
                       help="normalisation layers")
        g.add_argument("--init_type", default="normal", choices=["normal", "xavier", "kaiming", "orthogonal"],
                       help="initial weights")
        g.add_argument("--init_gain", type=WEIGHT, default=0.02, help="scale of normal, xavier and orthogonal weights")
        g.add_argument("--no_dropout", action="store_true", help="no dropout in the generator")

    # -- values ------------------------------------------------------------------------------------------------

    def finish(self, opt: Namespace) -> Namespace:
        """Works out what follows from the values (device, name) and refuses pairs that cannot work."""
        opt.isTrain = self.isTrain
        opt.phase = getattr(opt, "phase", None) or self.phase
        if opt.suffix:
            opt.name = f"{opt.name}_{_filled(opt.suffix, opt)}"
        if opt.plugins:
            opt.plugins = str(Path(opt.plugins).resolve())      # as the run remembers it, wherever it is used from
        opt.facts = run_file.read_facts(opt.checkpoints_dir, opt.name) if self.of_run(opt) else Facts()
        self.check(opt)
        opt.gpu_ids, opt.device = place(opt.device, opt.gpu_ids)
        opt.threads = threads.use(opt.threads, getattr(opt, "nproc", 1))
        return opt

    def of_run(self, opt: Namespace) -> bool:
        """True where --name is a trained run, whose facts hold; training finds its own."""
        return self.from_run

    def check(self, opt: Namespace) -> None:
        if not opt.name:
            raise UserError("--name is empty: give the run a name")
        if Path(opt.name).is_absolute() or ".." in Path(opt.name).parts:
            raise UserError(f"--name {opt.name}: is a folder's name under --checkpoints_dir, and no path elsewhere")
        self.check_data(opt)
        check_words(opt)
        self.check_spacing(opt)
        crops = opt.preprocess in ("resize_and_crop", "scale_width_and_crop")
        if crops and opt.crop_size > opt.load_size:
            raise UserError(f"--crop_size {opt.crop_size} is larger than --load_size {opt.load_size}: "
                            "give a smaller --crop_size, or a larger --load_size")

    @staticmethod
    def check_spacing(opt: Namespace) -> None:
        if opt.spacing is not None and not 0.01 <= opt.spacing <= 100:
            raise UserError(f"--spacing {opt.spacing:g}: give millimetres a pixel, from 0.01 to 100")
        if opt.spacing is not None and opt.preprocess.startswith("scale_width"):
            raise UserError(f"--preprocess {opt.preprocess}: resizes to a width, and --spacing to a pixel's; give one "
                            "of them")

    def check_data(self, opt: Namespace) -> None:
        if not opt.dataroot and not self.from_run:
            raise UserError("--dataroot is missing: name the folder that holds one folder a modality")
        for option in ("dataroot", "input"):
            run_file.refuse_as_images(option, getattr(opt, option, None))
        if opt.val_fraction + opt.test_fraction >= 1:
            raise UserError("--val_fraction and --test_fraction leave nobody to train on: their sum must be below 1")


def check_words(opt: Namespace) -> None:
    """Raises UserError for what can be judged of the options of data before any is read."""
    from duiit.data.preparing.intensity import fixed_windows  # late, as these two: `duiit --help` must not wait
    from duiit.data.readers.finding import patient_regex
    from duiit.data.readers.selection import slice_indices

    fixed_windows(opt)
    slice_indices(1, opt.slices)
    if opt.patient_regex:
        patient_regex(opt.patient_regex)
    if opt.cache_dir:
        refuse_unwritable("--cache_dir", opt.cache_dir)


def require_folder(option: str, path: str) -> None:
    """Raises UserError where the folder that is to be read is not there."""
    if not Path(path).is_dir():
        raise UserError(f"{option} {path}: no such folder")


def _filled(suffix: str, opt: Namespace) -> str:
    try:
        return suffix.format(**vars(opt))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"--suffix {suffix}: cannot be filled in ({error}); in {{}} stands the name of an option, "
                        "such as {netG}") from None


def place(device: str, gpu_ids: str | list[int]) -> tuple[list[int], str]:
    """(gpu_ids as a list, device as text), from what was asked for and what is there."""
    import torch  # late: `duiit --help` must not wait for it

    ids = [i for i in _numbers(gpu_ids) if i >= 0]
    if device == "auto":
        if ids and torch.cuda.is_available():
            device = f"cuda:{ids[0]}"
        else:
            device = "mps" if ids and torch.backends.mps.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise UserError(f"--device {device}: give auto, cpu, cuda, cuda:N or mps")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not there or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        raise UserError(f"--device {device}: this machine has no such device; --device auto takes what is there")
    return ([int(number or 0)], f"cuda:{number or 0}") if kind == "cuda" else ([], device)


def _numbers(text: str | list[int]) -> list[int]:
    if isinstance(text, list):
        return text
    try:
        return [int(word) for word in str(text).split(",") if word.strip()]
    except ValueError:
        raise UserError(f"--gpu_ids {text}: give numbers with commas, such as 0 or 0,1, or -1 for the CPU") from None
