"""Taking a run's folder: made where it is new, locked against other processes, and freed of what a killed one left."""
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from duiit.options import run_file
from duiit.util import distributed, run_lock
from duiit.util.errors import UserError
from duiit.util.files import remove_temporaries


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Holds the folder of a run. Where it is new and the run fails before it began, that is, before its options were
    written, it is removed again."""
    with ExitStack() as stack:
        distributed.from_main(lambda: stack.enter_context(_claimed_here(folder)))
        yield


@contextmanager
def _claimed_here(folder: Path) -> Iterator[None]:
    made = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the run's folder {folder} cannot be made (--checkpoints_dir): {error.strerror}") from error
    try:
        with run_lock.hold(folder):
            try:
                remove_temporaries(folder)
                yield
            except BaseException:
                if made and not (folder / run_file.NAME).is_file():
                    shutil.rmtree(folder, ignore_errors=True)
                raise
    finally:
        for parent in made:
            with suppress(OSError):             # another run's by now, or our own that began
                parent.rmdir()
