"""The batch size that an export fixed: freed where the model then still answers the same, kept where it doesn't."""

from __future__ import annotations

from service.adding.draft import Draft, session
from service.adding.rewrite import with_any_batch
from service.adding.trial import with_rows_apart


def with_free_batch(draft: Draft) -> tuple[Draft, int | None]:
    """The draft for any number of rows, None beside it; or as it is, beside the number of rows that it takes."""
    with session(draft.model) as opened:
        batch = opened.inputs[0].shape[0]
    if batch is None:
        return draft, None
    freed = with_any_batch(draft.model, batch)
    if with_rows_apart(draft, batch, freed):
        words = f"the batch size {batch} that the export had fixed freed: the same answers row by row, measured"
        return draft.changed(freed, words), None
    if batch == 1:
        return draft.noted("the graph takes one row at a time (its export fixed the batch size, and freeing it changes answers)"), 1
    return draft.noted(
        f"the graph takes exactly {batch} rows at a time: a request needs {batch} instances, and another number is "
        "an error. Export it with a batch axis that varies"
    ), batch
