"""What an answer may be."""

from __future__ import annotations

import ctypes
import json
from typing import Any, Mapping, Optional, Sequence, Union

from . import _c
from ._errors import InvalidArgumentError


class Constraint:
    """Answers that are JSON of a schema, match an expression, follow a grammar or are one of some texts: made by
    Model.constraint(), given to any number of calls as `constraint`. An answer that ends by itself is one of those allowed.
    """

    def __init__(self, handle: _c.Handle) -> None:
        self._handle = handle


def make_constraint(
    model: _c.Handle,
    schema: Union[None, str, Mapping[str, Any]],
    json_object: bool,
    regex: Optional[str],
    grammar: Optional[str],
    choices: Optional[Sequence[str]],
) -> Constraint:
    given = [
        name
        for name, value in (
            ("schema", schema),
            ("json_object", json_object or None),
            ("regex", regex),
            ("grammar", grammar),
            ("choices", choices),
        )
        if value is not None
    ]
    if len(given) != 1:
        raise InvalidArgumentError(
            f"a constraint of {' and '.join(given) or 'nothing'}: want one of schema, json_object, regex, "
            "grammar, choices"
        )
    if choices is not None:
        if any("\0" in text for text in choices):
            raise InvalidArgumentError("a choice with a NUL")
        texts = (ctypes.c_char_p * max(len(choices), 1))(*[text.encode() for text in choices])
        return Constraint(
            _c.create("glimpse_constraint_create_choice", "glimpse_constraint_free", model, texts, len(choices))
        )
    text, kind = "", "GLIMPSE_CONSTRAINT_JSON_OBJECT"
    if schema is not None:
        text, kind = schema if isinstance(schema, str) else json.dumps(schema), "GLIMPSE_CONSTRAINT_JSON_SCHEMA"
    elif regex is not None:
        text, kind = regex, "GLIMPSE_CONSTRAINT_REGEX"
    elif grammar is not None:
        text, kind = grammar, "GLIMPSE_CONSTRAINT_GBNF"
    data = text.encode()
    return Constraint(
        _c.create("glimpse_constraint_create", "glimpse_constraint_free", model, _c.numbers[kind], data, len(data))
    )
