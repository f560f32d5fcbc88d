"""Is the libvips in use the one of our own wheel? Asked by the server of what its workers say.

pip compiles pyvips against any libvips headers it finds, and then loads the system's old library
although the wheel's is installed: slower, larger files, and other decoders.
"""

from __future__ import annotations

import importlib.metadata

from galerly_cdn.errors import SettingsError

_CURE = (
    "pyvips uses libvips {found} instead of {wanted} from its pyvips-binary package; reinstall it with: "
    "PKG_CONFIG_LIBDIR=/nonexistent "
    "pip install --no-binary pyvips --no-cache-dir --force-reinstall --no-deps pyvips"
)


def check_version(found: str) -> None:
    """Raise `SettingsError` naming the cure unless `found` is the version of pyvips-binary."""
    wanted = importlib.metadata.version("pyvips-binary")
    if found != ".".join(wanted.split(".")[:3]):
        raise SettingsError([_CURE.format(found=found, wanted=wanted)])
