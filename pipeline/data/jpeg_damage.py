"""Damage inside JPEG files, over which decoders pass: they fill what is missing and go on."""

from __future__ import annotations

import re

import simplejpeg

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_TABLES, _SCAN, _SEQUENTIAL = 0xC4, 0xDA, (0xC0, 0xC1)  # markers of segments
_END_OF_BLOCK = 0  # the symbol for "no more coefficients in this block"
_ZEROS = re.compile(rb"\0{64}")  # with usual tables a block of coefficients that are all -1


def jpeg_damage(data: bytes) -> str | None:
    """What is wrong in the compressed data of a JPEG file; None for nothing, or another format.

    Noticed are missing and superfluous data, impossible codes and long runs of zeros: every file
    that was cut, nearly every one in which 200 bytes were overwritten, but only one flipped bit
    in four, because most change values and not the number of codes. Decoders of other formats
    stop by themselves.

    Example:
        >>> jpeg_damage(b"GIF89a") is None
        True
    """
    if not data.startswith(_START):
        return None
    try:  # one sample per 8 x 8 block: all codes are read, and little is computed
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        return str(error)
    return "a run of zeros in the compressed data" if _has_run_of_zeros(data) else None


def _has_run_of_zeros(data: bytes) -> bool:
    """Whether the scan of a sequential JPEG has zeros that its tables make impossible.

    If the shortest code, which is all zeros, ends a block, zeros are a plain surface. That is
    usual for colour, and for brightness only in plain pictures with tables of their own.
    """
    place, sequential = 2, False
    codes: list[int] = []
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        content = data[place + 4 : place + 2 + length]
        place += 2 + length
        sequential |= marker in _SEQUENTIAL
        if marker == _TABLES:
            codes += _shortest_codes(content)
        if marker == _SCAN:
            together = len(codes) == 1 or content[0] > 1  # brightness and colour in one scan
            impossible = sequential and together and any(code != _END_OF_BLOCK for code in codes)
            return impossible and bool(_ZEROS.search(data, place, data.find(_END, place)))
    return False


def _shortest_codes(tables: bytes) -> list[int]:
    """The symbol of the code of zeros in each table of coefficients (not of the mean)."""
    found = []
    while len(tables) > 17:
        if tables[0] >> 4:
            found.append(tables[17])
        tables = tables[17 + sum(tables[1:17]) :]
    return found
