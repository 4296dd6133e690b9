"""The one exception that is meant for the user's eyes: a single line that names what is wrong and what to do."""
import logging
import sys
from typing import NoReturn


class UserError(Exception):
    """A mistake in the input (file, folder, label, option) that the user can mend.

    The command line prints the message as one line and exits with status 2, without a traceback. Raise it with a
    message that names the file or the option, says what is wrong and what to do about it.
    """


def fail(message: object, code: int = 2) -> NoReturn:
    """Ends the process with one line on standard error."""
    logging.getLogger(__name__).error("%s", " ".join(str(message).split()))
    sys.exit(code)
