"""First bytes of films."""

from __future__ import annotations

import re
from typing import Final

# The first box of an ISO file or of QuickTime, an EBML header, and so on. Boxes are small, except
# those of old QuickTime files.
_HEADS: Final = re.compile(
    rb"\0\0[\0-\x0f].ftyp(?!hei[cfmsx]|hev[cmsx]|mif1|msf1|avi[fs]|crx |M4[ABP] |jp[2x]|jxl)"
    rb"|....(?:moov|mdat)|\0\0\0.(?:wide|free|skip|pnot)"
    rb"|\x1aE\xdf\xa3|RIFF....AVI |FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\0\0\x01\xba"
    rb"|(?:....)?G[@-_].[\x10-\x1f]|OggS.{24,40}\x80theora",
    re.DOTALL,
)


def is_film(head: bytes) -> bool:
    """Return True if the first bytes of a file are those of a film."""
    return _HEADS.match(head) is not None
