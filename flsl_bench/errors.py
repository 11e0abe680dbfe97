"""The errors the library raises; each message names the file, the field and the cure in one line."""


class FlslBenchError(Exception):
    """Base of every error a user can cause; the command line prints it as one line and exits with 2."""


class CheckpointError(FlslBenchError):
    """A weight file that cannot be read safely, completely or as the architecture asked for."""


class ConfigError(FlslBenchError):
    """A config, an option or a name that cannot be used."""


class DataError(FlslBenchError):
    """A data set that is missing, incomplete or malformed."""


class OperatorError(FlslBenchError):
    """An OpenMMLab operator that no installed provider offers."""


class RecordError(FlslBenchError):
    """A result record that is malformed or would be overwritten."""


class OtherVersionError(RecordError):
    """A result record that another version of flsl_bench wrote."""
