"""`duiit train --nproc N`: starts N processes on this machine through torch's own launcher, as torchrun does.

Several machines are torchrun's business: `torchrun --nnodes … -m duiit_cli train …` on each of them.
"""
import logging
import os
import signal
import sys
from argparse import Namespace

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from duiit.models import find_model_using_name
from duiit.util import threads
from duiit.util.errors import UserError, fail
from duiit.util.logs import setup_logging
from duiit_cli.training.loop import train

log = logging.getLogger(__name__)


def launch(opt: Namespace) -> int:
    """Trains the run that `opt` describes in opt.nproc processes. Returns the exit status.

    Where one of them ends badly the others are ended too; what was wrong they say themselves.
    """
    find_model_using_name(opt.model).check_options(opt)     # told before there are processes to end
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):     # they repeat it, at length
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=opt.nproc, run_id=opt.name,
                          rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2)
    try:
        codes = elastic_launch(config, _train)(opt)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            log.error("process %d of the run was ended by signal %d (%s), and the others with it", rank,
                      -failure.exitcode, signal.Signals(-failure.exitcode).name)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as stopped:
        return 128 + stopped.sigval
    return max(codes.values())


def _train(opt: Namespace) -> int:
    """In each process: 0 as a value, any other exit status as the end of the process."""
    setup_logging(opt.verbose)
    threads.use(opt.threads)
    try:
        code = train(opt)
    except UserError as error:
        fail(error)
    except KeyboardInterrupt:
        code = 130
    except Exception:
        log.exception("process %s of the run failed", os.environ["RANK"])       # the launcher would keep it to itself
        code = 1
    if code:
        sys.exit(code)          # a value would wait for a launcher that is stopping, and listens no more
    return code
