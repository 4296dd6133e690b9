"""DICOM files for the tests of preparing, written as for those of the readers."""
from tests.data.readers.conftest import pet_tags, write_slice  # noqa: F401
