"""`duiit import`: networks trained with the CycleGAN toolkit become a run."""
from argparse import Namespace

from duiit.options import ImportOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> int:
    from duiit_cli.inference.import_ import import_networks  # late: torch takes seconds to import

    return import_networks(opt)


command = OptionsCommand("import", ImportOptions, run, help="""Make a run of networks that were trained with the
CycleGAN/pix2pix toolkit, so that test and translate work on it. Architecture options are read off the weights; say how
the images were prepared (--load_size, --crop_size, --preprocess) and what they are (--sources, --target, --ct_window)
where the defaults do not fit.

\b
duiit import --from ./checkpoints/horse2zebra --name zebra
duiit import --from ./checkpoints/mr2ct --name mr2ct --sources mri --target ct --dataroot ./mri_ct""")
