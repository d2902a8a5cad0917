"""`POST /v1/moderations`: what is in a text, judged by a few words."""

from typing import Any

import msgspec

from relay.simulator.catalogue import model_check
from relay.simulator.decoding import body_decode, knobs_check
from relay.simulator.errors import bad_request
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.replies import Answer, Call
from relay.simulator.usage import usage_reported

_DEFAULT_MODEL = "omni-moderation-latest"
_MAX_INPUTS = 2_048
_FLAGGED, _FINE = 0.875, 0.0009765625
_WORDS = {
    "harassment": ("idiot",),
    "harassment/threatening": (),
    "sexual": ("sexual",),
    "hate": ("hate",),
    "hate/threatening": (),
    "illicit": ("steal",),
    "illicit/violent": ("bomb",),
    "self-harm/intent": (),
    "self-harm/instructions": (),
    "self-harm": ("suicide",),
    "sexual/minors": (),
    "violence": ("kill", "bomb"),
    "violence/graphic": (),
}
# What can be seen in a picture; everything else is judged by text alone.
_IN_IMAGES = frozenset(
    (
        "sexual",
        "self-harm",
        "self-harm/intent",
        "self-harm/instructions",
        "violence",
        "violence/graphic",
    )
)


class _Part(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None
    image_url: dict[str, Any] | None = None


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    input: str | list[str | _Part]
    model: str | None = None
    simulate: Knobs | None = None


_DECODER = msgspec.json.Decoder(ModerationRequest)


def moderations_answer(call: Call) -> Answer:
    """Raises Refusal."""
    request = body_decode(call.body, decoder=_DECODER)
    model = request.model or _DEFAULT_MODEL
    model_check(model, endpoint="moderations")
    knobs = request.simulate or NO_KNOBS
    knobs_check(knobs, stream=False)
    document: dict[str, Any] = {
        "id": f"modr-{call.digest[:28]}",
        "model": knobs.model or model,
        "results": [_result(*one) for one in _inputs(request)],
    }
    # The real one reports none; a test may want to see what becomes of one.
    if knobs.usage or knobs.usage_more:
        document["usage"] = usage_reported({}, knobs=knobs)
    return Answer(knobs=knobs, document=document)


def _inputs(request: ModerationRequest) -> list[tuple[str, tuple[str, ...]]]:
    """Each text to judge, with the kinds of what it came from. Raises Refusal."""
    if isinstance(request.input, str):
        return [(request.input, ("text",))]
    texts = [part for part in request.input if isinstance(part, str)]
    parts = [part for part in request.input if isinstance(part, _Part)]
    if (texts and parts) or not request.input or len(request.input) > _MAX_INPUTS:
        raise bad_request("Invalid value for 'input'.", param="input")
    if texts:
        return [(text, ("text",)) for text in texts]
    for part in parts:
        if (part.text if part.type == "text" else part.image_url) is None:
            raise bad_request("Invalid part of 'input'.", param="input")
    kinds = {"image" if part.type == "image_url" else "text" for part in parts}
    return [(" ".join(part.text or "" for part in parts), tuple(sorted(kinds)))]


def _result(text: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    lower = text.lower()
    categories = {name: any(word in lower for word in words) for name, words in _WORDS.items()}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": {
            name: _FLAGGED if flagged else _FINE for name, flagged in categories.items()
        },
        "category_applied_input_types": {
            name: [kind for kind in kinds if kind == "text" or name in _IN_IMAGES]
            for name in categories
        },
    }
