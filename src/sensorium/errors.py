"""Everything Sensorium raises on purpose: one clear line that says what, where and how to mend it."""


class SensoriumError(Exception):
    """The root of all errors a user can cause; the command line prints its one line and exits with 2."""


class DataError(SensoriumError):
    """A table, a row or a file cannot be read as what it claims to be."""


class RecipeError(SensoriumError):
    """A recipe or a setting holds a key, a name or a value that is not known."""


class MediaError(SensoriumError):
    """A picture, a sound or a video is broken, too large, or takes too long to decode."""


class ShapeError(SensoriumError):
    """Arrays that must line up do not."""


class SnapshotError(SensoriumError):
    """A saved run is missing, damaged, or was written by another version."""


class UnknownId(SensoriumError):
    """An id that neither the catalogue nor the log contains."""


class RemoteError(SensoriumError):
    """A service that was asked (an embeddings endpoint) did not answer, or its spending cap is reached."""


class MissingExtra(SensoriumError):
    """A library that this step needs is not installed; the message names the extra that brings it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed; run: pip install 'sensorium[{extra}]'")
