"""An input that takes texts: the tokenizer, the ids, and the inputs that follow from them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from tokenizers import Tokenizer

from service.adding.draft import Draft
from service.adding.refused import NotAdded
from service.adding.rewrite import with_mask_inside, with_wider_ids
from service.adding.wishes import Wishes
from service.engine.running import TensorInfo
from service.explain.detect import entries
from service.manifest import Input, TextPolicy

TOKENIZER_FILE = "tokenizer.json"
_LONGEST = 512
_INTEGERS = ("int32", "int64")
_PADS = ("[PAD]", "<pad>", "<PAD>")


def as_text(draft: Draft, infos: Sequence[TensorInfo], wishes: Wishes) -> Draft:
    """The ids' input described as a text; masks and segments are made inside the graph. Raises NotAdded."""
    tokenizer = _tokenizer(wishes)
    ids = _ids(infos)
    if ids.shape[1] is not None:
        raise NotAdded(
            f"input {ids.name!r} takes exactly {ids.shape[1]} tokens: texts have any length; export the model with a sequence axis "
            "that varies (dynamic_axes or dynamic_shapes)"
        )
    rows = _table_rows(draft.model, ids.name)
    if rows is not None and tokenizer.get_vocab_size() > rows:
        raise NotAdded(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, the model's table {rows}: they don't belong together")
    if ids.dtype == "int32":
        draft = draft.changed(with_wider_ids(draft.model, ids.name), f"input {ids.name!r} takes int64 ids, cast to int32 inside")
    draft, lengths = _companions(draft, ids, infos)
    policy = TextPolicy(max_length=_max_length(tokenizer, wishes), pad_id=pad_id(tokenizer), lengths=lengths)
    span = (0.0, float(rows - 1)) if rows is not None else None
    return draft.with_inputs(Input(name=ids.name, codec="text", dtype="int64", shape=(None,), range=span, text=policy))


def pad_id(tokenizer: Tokenizer) -> int:
    """The padding token's id, 0 where there is none."""
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    return next((found for pad in _PADS if (found := tokenizer.token_to_id(pad)) is not None), 0)


def _tokenizer(wishes: Wishes) -> Tokenizer:
    if wishes.tokenizer is None:
        raise NotAdded("a text model needs its tokenizer: say --tokenizer FILE, a Hugging Face tokenizer.json")
    try:
        return Tokenizer.from_buffer(wishes.tokenizer.read_bytes())
    except OSError as error:
        raise NotAdded(f"--tokenizer {str(wishes.tokenizer)!r}: {error.strerror}") from None
    except Exception as error:  # the library raises bare Exception
        raise NotAdded(f"--tokenizer {str(wishes.tokenizer)!r} is no Hugging Face tokenizer.json: {error}") from None


def _ids(infos: Sequence[TensorInfo]) -> TensorInfo:
    possible = [i for i in infos if len(i.shape) == 2 and i.dtype in _INTEGERS]
    if not possible:
        raise NotAdded(f"no input takes token ids (integers, batch x tokens); there are: {', '.join(f'{i.name} {i.dtype}' for i in infos)}")
    return next((i for i in possible if i.name == "input_ids"), possible[0])


def _companions(draft: Draft, ids: TensorInfo, infos: Sequence[TensorInfo]) -> tuple[Draft, str | None]:
    lengths = None
    for info in infos:
        if info.name == ids.name or info.dtype not in (*_INTEGERS, "bool", "float32"):
            continue
        if len(info.shape) == 1 and info.dtype == "int64" and "len" in info.name.lower():
            lengths = info.name
        elif len(info.shape) == 2 and "mask" in info.name.lower():
            model = with_mask_inside(draft.model, info.name, ids.name, 1)
            draft = draft.changed(
                model, f"{info.name!r} is made inside the graph, all ones: texts of one length share a batch, without padding"
            )
        elif len(info.shape) == 2 and any(word in info.name.lower() for word in ("token_type", "segment")):
            model = with_mask_inside(draft.model, info.name, ids.name, 0)
            draft = draft.changed(model, f"{info.name!r} is made inside the graph, all zeros: one text is one segment")
    return draft, lengths


def _table_rows(model: onnx.ModelProto, name: str) -> int | None:
    known = [entry.indices for entry in entries(model, name) if entry.indices is not None]
    return min(known, default=None)


def _max_length(tokenizer: Tokenizer, wishes: Wishes) -> int:
    if wishes.max_length is not None:
        return wishes.max_length
    return int(tokenizer.truncation["max_length"]) if tokenizer.truncation else _LONGEST
