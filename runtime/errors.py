"""The errors quillrt raises for what it can foresee, one tree.

    QuillError
    ├── SpecError            an array, a label list or a model does not have the expected shape or type
    ├── ConfigError          an option or a configuration file is wrong
    ├── BundleError          a .quill file is missing, damaged, newer than this program or lacks an entry
    ├── ImageError           an image cannot be read
    ├── DataError            a data set cannot be had or is malformed
    ├── CheckpointError      a checkpoint is missing, damaged or does not fit the model
    ├── CalibrationError     a calibration table is missing, damaged or belongs to another model
    ├── ExportError          a network or an ONNX file cannot become a checked ONNX classifier
    ├── BuildError           an engine builder refused the graph
    ├── AccuracyError        a compiled model strays from its reference, or answers NaN
    ├── WorkerError          a process that did part of the work ended
    └── BackendUnavailable   a backend exists, but cannot work on this machine

Every message is one line that says what was expected, what was found and what to do.
"""


class QuillError(Exception):
    """Root of the tree; the command line prints it as one line and exits with code 1."""


class SpecError(QuillError):
    """An array, a label list or a model does not have the expected shape or type."""


class ConfigError(QuillError):
    """An option or a configuration file is wrong."""


class BundleError(QuillError):
    """A .quill file is missing, damaged, newer than this program or lacks an entry."""


class ImageError(QuillError):
    """An image cannot be read."""


class DataError(QuillError):
    """A data set cannot be had or is malformed."""


class CheckpointError(QuillError):
    """A checkpoint is missing, damaged or does not fit the model."""


class CalibrationError(QuillError):
    """A calibration table is missing, damaged or belongs to another model."""


class ExportError(QuillError):
    """A network or an ONNX file cannot become a checked ONNX classifier."""


class BuildError(QuillError):
    """An engine builder refused the graph."""


class AccuracyError(QuillError):
    """A compiled model strays from its reference, or answers NaN."""


class WorkerError(QuillError):
    """A process that did part of the work ended."""


class BackendUnavailable(QuillError):  # noqa: N818 - the name says more than an "Error" suffix would
    """A backend exists, but cannot work on this machine."""
