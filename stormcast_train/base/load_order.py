"""Imported where NetCDF files are opened: pyproj's shared libraries must load before netCDF4 reads a file.

The wheels of both bring libraries of the same names; in the other order the interpreter aborts when it ends
(exit 134 or 139).
"""

import pyproj  # noqa: F401
