"""Runs a piece of Python with one family's kernels on simt taken from another library: mutant.py TABLE LIBRARY CODE.

The library exports gg_table(), the address of a table of kernels. A fault is printed, and its exit status is 3.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import types

import glassgrad as gg
from glassgrad import _simt


def backend_with(table: str, address: int) -> types.ModuleType:
    """A stand-in for glassgrad._simt whose backend has this table in the place of its own."""
    names = _simt.table_names()
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    pointer = struct.calcsize("P")
    first = _simt.functions_before_tables()
    bytes_ = (first + len(names)) * pointer
    original = api.PyCapsule_GetPointer(_simt.backend, b"glassgrad.backend")
    copy = ctypes.create_string_buffer(ctypes.string_at(original, bytes_), bytes_)
    struct.pack_into("P", copy, (first + names.index(table)) * pointer, address)
    module = types.ModuleType("glassgrad._simt")
    module.__dict__.update(vars(_simt), kept=copy)
    module.__dict__["backend"] = api.PyCapsule_New(ctypes.addressof(copy), b"glassgrad.backend", None)
    return module


def main() -> int:
    table, library, code = sys.argv[1:]
    found = ctypes.CDLL(library)
    found.gg_table.restype = ctypes.c_void_p
    sys.modules["glassgrad._simt"] = backend_with(table, found.gg_table())
    try:
        exec(code, {"gg": gg})
    except RuntimeError as fault:
        print(fault)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
