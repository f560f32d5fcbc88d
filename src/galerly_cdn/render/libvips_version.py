"""Checks that the workers' libvips is the one that the pyvips-binary package contains.

pip compiles pyvips against any libvips headers that it finds. pyvips then loads the system's libvips, even
if pyvips-binary is installed: an older one is slower, makes larger files and has other decoders.
"""

from __future__ import annotations

import importlib.metadata

from galerly_cdn.errors import SettingsError

_REMEDY = (
    "pyvips uses libvips {loaded} instead of {packaged} from its pyvips-binary package; reinstall it with: "
    "PKG_CONFIG_LIBDIR=/nonexistent "
    "pip install --no-binary pyvips --no-cache-dir --force-reinstall --no-deps pyvips"
)


def check_version(loaded: str) -> None:
    """Raise `SettingsError` with the remedy unless `loaded` is the version of pyvips-binary."""
    if loaded != packaged_version():
        packaged = importlib.metadata.version("pyvips-binary")
        raise SettingsError([_REMEDY.format(loaded=loaded, packaged=packaged)])


def packaged_version() -> str:
    """The version of libvips in the pyvips-binary package, whose own version may have a fourth number."""
    return ".".join(importlib.metadata.version("pyvips-binary").split(".")[:3])
