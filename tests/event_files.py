"""TensorBoard event files, read back with tensorboardX's protos."""

import struct
from pathlib import Path
from typing import Any


def events(directory: Path) -> list[Any]:
    """Every event of a directory, in TensorBoard's order: files by name, events as written."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(directory.iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def shown(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """The points (step, value) of every curve that TensorBoard shows: a session's start hides what lies after it."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in events(directory):
        if event.HasField("session_log") and event.session_log.status == event.session_log.START:
            curves = {name: [p for p in points if p[0] < event.step] for name, points in curves.items()}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def texts(directory: Path) -> dict[str, str]:
    """The texts that TensorBoard shows, by name."""
    values = [value for event in events(directory) for value in event.summary.value if value.HasField("tensor")]
    return {value.tag: value.tensor.string_val[0].decode() for value in values}
