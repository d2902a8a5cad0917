"""The models that the simulator lists. It answers for any other plausible id too."""

import re
from typing import Any

from relay.simulator.errors import ErrorBody, Refusal, model_not_found

_MODEL = re.compile(r"(?!unknown)[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")

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
    "gpt-3.5-turbo-instruct": 1692901427,
    "davinci-002": 1692634301,
    "babbage-002": 1692634615,
    "text-embedding-ada-002": 1671217299,
    "text-embedding-3-small": 1705948997,
    "text-embedding-3-large": 1705953180,
    "omni-moderation-latest": 1731689265,
    "text-moderation-latest": 1696899823,
    "dall-e-2": 1698798177,
    "dall-e-3": 1698785189,
    "gpt-image-1": 1745517030,
    "gpt-image-1-mini": 1758845821,
    "gpt-image-1.5": 1764030620,
    "tts-1": 1681940951,
    "tts-1-hd": 1699046015,
    "gpt-4o-mini-tts": 1742403959,
    "whisper-1": 1677532384,
    "gpt-4o-transcribe": 1742068463,
    "gpt-4o-mini-transcribe": 1742068596,
    "gpt-4o-transcribe-diarize": 1750798887,
}
_CREATED_ELSE = 1686935002


def model_is_known(model: str) -> bool:
    return _MODEL.fullmatch(model) is not None


# Endpoint, what its models are named like.
_FAMILIES = {
    "completions": re.compile("instruct|davinci|babbage"),
    "embeddings": re.compile("embedding"),
    "moderations": re.compile("moderation"),
    "images": re.compile("dall-e|image"),
    "speech": re.compile("tts"),
    "audio": re.compile("whisper|transcribe"),
}


def model_check(model: str, *, endpoint: str) -> None:
    """Raises Refusal unless the model exists and serves the endpoint."""
    if not model_is_known(model):
        raise model_not_found(model)
    if _FAMILIES[endpoint].search(model) is None:
        message = f"The model `{model}` is not supported by this endpoint."
        raise Refusal(404, ErrorBody(message=message, param="model"))


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
