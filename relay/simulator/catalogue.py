"""The models that the simulator lists. It answers for any other plausible id too."""

from typing import Any

from relay.simulator.errors import model_not_found
from relay.simulator.requests import model_is_known

_CREATED = {
    "gpt-3.5-turbo": 1677610602,
    "gpt-3.5-turbo-0125": 1706048358,
    "gpt-4": 1687882411,
    "gpt-4-turbo": 1712361441,
    "gpt-4o": 1715367049,
    "gpt-4o-mini": 1721172741,
    "gpt-4.1": 1744316542,
    "gpt-4.1-mini": 1744318173,
    "gpt-4.1-nano": 1744321707,
    "gpt-5": 1754425777,
    "gpt-5-mini": 1754425928,
    "gpt-5-nano": 1754426384,
    "gpt-5.2": 1765313051,
    "o1": 1734375816,
    "o3": 1744225308,
    "o3-mini": 1737146383,
    "o4-mini": 1744225351,
}
_CREATED_ELSE = 1686935002


def model_list() -> dict[str, Any]:
    return {"object": "list", "data": [model_get(model) for model in _CREATED]}


def model_get(model: str) -> dict[str, Any]:
    """Raises Refusal."""
    if not model_is_known(model):
        raise model_not_found(model)
    return {
        "id": model,
        "object": "model",
        "created": _CREATED.get(model, _CREATED_ELSE),
        "owned_by": "system",
    }
