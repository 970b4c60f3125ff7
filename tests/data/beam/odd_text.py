"""Text with everything odd about it."""

import gzip
from pathlib import Path

import zstandard

LONG_LINE = " ".join(f"w{n % 700}" for n in range(3000))
SHARDS = {
    "b/0.txt": "\ufeffthe cat\n\r\n\n  \nsat on\u2003the a<S>b\r\nmat é 𝄞\n\n" * 9 + "the end\n\n",
    "b-1.txt": "\n",
    "b-2.txt": "",
    "b-3.txt": "\ufeff\n" + LONG_LINE + "\n\ufeffa mark that is no byte order mark\nmore text\nwithout end",
    "b-4.txt": "goes on ? no\n" * 40,
    "b-5.txt.gz": "packed text\n\nof two documents\n" * 30,
    "b-6.txt.zst": "日本語 の 文\n" * 30 + "not ended",
    "b-7.txt": "\r\n\r\nZ\n",
    "b-8.txt": "no line ends here" * 60 + "\r",
}
_PACK = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


def write(folder: Path) -> str:
    """Write the shards; the globs that match them."""
    for name, text in SHARDS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_PACK.get(path.suffix, bytes)(text.encode()))
    return f"{folder}/b-*, {folder}/b/*"
