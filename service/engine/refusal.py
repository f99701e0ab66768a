"""ONNX Runtime's errors in words for people: what is wrong with the model, without folders or C++ of any machine."""

from __future__ import annotations

import re
from pathlib import Path

_LONGEST = 400

_MEMORY = r"std::bad_alloc|[Ff]ailed to allocate memory|allocate memory for requested buffer|Available memory of \d+ is smaller"
_KNOWN = (
    (r"Protobuf parsing failed", "it is damaged, cut off, or no ONNX file at all (protobuf can't read it)"),
    (r"No graph was found", "it holds no graph: an empty file, or one of another kind"),
    (r"graph is not acyclic", "its graph has a cycle: a node depends on its own output"),
    (
        r"Node input '(?P<a>[^']*)' is not a graph input, initializer, or output of a previous node",
        "its graph reads the tensor {a!r}, which is no input, no constant and no node's output",
    ),
    (
        r"Fatal error: (?P<a>\S*):(?P<b>\w+)\(-?\d+\) is not a registered function/op",
        "ONNX Runtime has no operator {b!r} of the domain {a!r}",
    ),
    (
        r"Opset (?P<a>\d+) is under development.*till opset (?P<b>\d+)",
        "it is written in operator set {a}, this ONNX Runtime knows those up to {b}; export it with an older one",
    ),
    (
        r"Unsupported model IR version: (?P<a>\d+), max supported IR version: (?P<b>\d+)",
        "its file format is IR version {a}, this ONNX Runtime reads those up to {b}; export it with an older onnx",
    ),
    (
        r"Could not find an implementation for (?P<a>\w+)\((?P<b>\d+)\)",
        "ONNX Runtime can't compute {a!r} as operator set {b} has it for these types; export with a newer operator set",
    ),
    (
        r"External data path validation failed for initializer: (?P<a>.*?)\. Error: .*does not exist",
        "the weights of {a!r} lie in a file that isn't in the folder (external data)",
    ),
    (
        r"External data path validation failed for initializer: (?P<a>.*?)\. Error: ",
        "the weights of {a!r} lie in a file outside the model's folder (external data), which is never read",
    ),
    (r"External data", "its weights lie in a file that is missing, too short or outside the model's folder (external data)"),
    (_MEMORY, "it needs more memory than models have (setting WHYSERVE_MODEL_MEMORY_MIB)"),
)
_PREFIXES = (
    r"\[ONNXRuntimeError\] : ",
    r"^\d+ : [A-Z_]+ : ",
    r"^Load model from \S+ failed:",
    r"\S*onnxruntime_src/\S+ .*?\) (?=\S)",  # file, line and signature of the C++ function that failed
    r"\b\w+\.(cc|h):\d+ \S+ ",
)
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"]+/)+")


def is_out_of_memory(error: Exception) -> bool:
    """Whether a run failed for want of memory: the model's doing or the machine's, never the input's kind."""
    return isinstance(error, MemoryError) or re.search(_MEMORY, str(error)) is not None


def out_of_range(error: Exception) -> str:
    """What an index that a table has no row for was, and what was expected; empty where the error is another."""
    found = re.search(r"indices element out of data bounds, idx=(-?\d+) must be within the inclusive range \[(-?\d+),(-?\d+)\]", str(error))
    return f"the index {found[1]} is out of range, this model takes {found[2]} to {found[3]} there" if found else ""


def in_words(error: Exception, path: Path | None = None) -> str:
    """One line that says what ONNX Runtime found wrong; its own words, cleaned, where the cause isn't a known one."""
    text = " ".join(str(error).split()) or type(error).__name__
    for pattern, words in _KNOWN:
        found = re.search(pattern, text)
        if found:
            return words.format(**found.groupdict())
    if path is not None:
        text = text.replace(str(path), path.name)
    for prefix in _PREFIXES:
        text = re.sub(prefix, "", text)
    return _FOLDERS.sub("", text)[:_LONGEST]
