"""Uses a gateway with one framework and prints what its users would see, as one JSON object.

It runs in an environment of its own (`make clients`): `python frameworks.py langchain`.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import httpx
import requests

BASE_URL, API_KEY, POOR_KEY = (os.environ[n] for n in ("BASE_URL", "API_KEY", "POOR_KEY"))
MODEL, EMBEDDING = os.environ["MODEL"], "text-embedding-3-small"
COMPLETING = "gpt-3.5-turbo-instruct"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
REFUSED = {
    "stranger": {"key": "sk-x", "model": MODEL},
    "poor": {"key": POOR_KEY, "model": MODEL},
    "unknown": {"key": API_KEY, "model": "no-such-model"},
}


class Counted:
    """How many requests really leave this process, through the libraries that frameworks have."""

    def __init__(self) -> None:
        self.sent = 0
        for sender, name in ((httpx.HTTPTransport, "handle_request"), (requests.Session, "send")):
            setattr(sender, name, self._counting(getattr(sender, name)))

    def _counting(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.sent += 1
            return send(*arguments, **named)

        return counted


COUNTED = Counted()


def refusals(ask: Callable[[str, str], object]) -> dict[str, Any]:
    """What becomes of calls that are refused; `ask` takes a key and a model."""
    found = {}
    for case, call in REFUSED.items():
        COUNTED.sent = 0
        try:
            ask(call["key"], call["model"])
        except Exception as error:  # noqa: BLE001  Each framework has classes of its own.
            kind = type(error).__name__
            found[case] = {"kind": kind, "message": str(error), "sent": COUNTED.sent}
    return found


def tokens(usage: Any) -> list[int]:
    """How many went in and came out, under whichever names a framework has for them."""
    fields = usage if isinstance(usage, dict) else usage.model_dump()
    names = ("input_tokens", "output_tokens")
    if "prompt_tokens" in fields:
        names = ("prompt_tokens", "completion_tokens")
    return [fields[name] for name in names]


def langchain() -> dict[str, Any]:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # Slow: only who is asked for.

    def client(key: str = API_KEY, model: str = MODEL, **fields: Any) -> ChatOpenAI:
        return ChatOpenAI(model=model, base_url=BASE_URL, api_key=key, **fields)

    answer = client().invoke("Hello")
    chunks = list(client().stream("Hello"))
    counted = list(client(stream_usage=True).stream("Hello"))
    asked = client().bind_tools([WEATHER]).invoke("Hello")
    vectors = OpenAIEmbeddings(
        model=EMBEDDING, base_url=BASE_URL, api_key=API_KEY, check_embedding_ctx_length=False
    )
    responding = client(use_responses_api=True).invoke("Hello")
    return {
        "chat": {"text": answer.content, "usage": tokens(answer.usage_metadata)},
        "stream": {
            "text": "".join(chunk.content for chunk in chunks),
            "usage": next(tokens(c.usage_metadata) for c in counted if c.usage_metadata),
        },
        "tools": [{"name": one["name"], "args": one["args"]} for one in asked.tool_calls],
        "embeddings": [len(one) for one in vectors.embed_documents(["one", "two"])],
        "responses": {"text": responding.text, "usage": tokens(responding.usage_metadata)},
        **refusals(lambda key, model: client(key, model).invoke("Hello")),
    }


def llamaindex() -> dict[str, Any]:
    from llama_index.core.llms import ChatMessage  # Slow: only who is asked for.
    from llama_index.embeddings.openai import OpenAIEmbedding
    from llama_index.llms.openai_like import OpenAILike

    def client(key: str = API_KEY, model: str = MODEL, **fields: Any) -> OpenAILike:
        fields = {"is_chat_model": True, **fields}
        return OpenAILike(model=model, api_base=BASE_URL, api_key=key, **fields)

    hello = [ChatMessage(role="user", content="Hello")]
    answer = client().chat(hello)
    chunks = list(client().stream_chat(hello))
    # By default it takes every model for one of text completions.
    completed = client(model=COMPLETING, is_chat_model=False).complete("Hello")
    tools = client(is_function_calling_model=True).chat(hello, tools=[WEATHER]).message
    vectors = OpenAIEmbedding(model_name=EMBEDDING, api_base=BASE_URL, api_key=API_KEY)
    return {
        "chat": {"text": answer.message.content, "usage": tokens(answer.raw.usage)},
        "stream": {"text": "".join(chunk.delta or "" for chunk in chunks)},
        "completion": {"text": completed.text},
        "tools": [
            {"name": one.function.name, "args": json.loads(one.function.arguments)}
            for one in tools.additional_kwargs["tool_calls"]
        ],
        "embeddings": [len(one) for one in vectors.get_text_embedding_batch(["one", "two"])],
        **refusals(lambda key, model: client(key, model).chat(hello)),
    }


def litellm() -> dict[str, Any]:
    import litellm as library  # Slow: only who is asked for.

    library.suppress_debug_info = True
    hello = [{"role": "user", "content": "Hello"}]

    def ask(key: str = API_KEY, model: str = MODEL, **fields: Any) -> Any:
        return library.completion(
            model=f"openai/{model}", messages=hello, api_base=BASE_URL, api_key=key, **fields
        )

    answer, asked = ask(), ask(tools=[WEATHER])
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    vectors = library.embedding(
        model=f"openai/{EMBEDDING}", input=["one", "two"], api_base=BASE_URL, api_key=API_KEY
    )
    return {
        "chat": {"text": answer.choices[0].message.content, "usage": tokens(answer.usage)},
        "stream": {
            "text": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
            "usage": next(tokens(c.usage) for c in chunks if getattr(c, "usage", None)),
        },
        "tools": [
            {"name": one.function.name, "args": json.loads(one.function.arguments)}
            for one in asked.choices[0].message.tool_calls
        ],
        "embeddings": [len(one["embedding"]) for one in vectors.data],
        **refusals(ask),
    }


def dify() -> dict[str, Any]:
    from dify_plugin.entities.model.message import (  # Slow: only who is asked for.
        PromptMessageTool,
        UserPromptMessage,
    )
    from dify_plugin.interfaces.model.openai_compatible import llm, text_embedding

    # What Dify counts itself, where a stream tells no usage, it would fetch from elsewhere.
    plain = {"_get_num_tokens_by_gpt2": lambda _, text: len(text)}
    chat = type("Chat", (llm.OAICompatLargeLanguageModel,), plain)([])
    vectors = type("Vectors", (text_embedding.OAICompatEmbeddingModel,), plain)([])
    told = WEATHER["function"]
    tools = [PromptMessageTool(**told)]

    def terms(key: str = API_KEY) -> dict[str, str]:
        modes = {"mode": "chat", "context_size": "8192", "function_calling_type": "tool_call"}
        return {"endpoint_url": BASE_URL, "api_key": key, **modes}

    def ask(key: str = API_KEY, model: str = MODEL, **fields: Any) -> Any:
        hello = [UserPromptMessage(content="Hello")]
        return chat._invoke(model, terms(key), hello, {}, **fields)

    chat.validate_credentials(MODEL, terms())
    answer, asked = ask(stream=False), ask(stream=False, tools=tools)
    embedded = vectors._invoke(EMBEDDING, terms(), ["one", "two"])
    return {
        "chat": {
            "text": answer.message.content,
            "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
        },
        "stream": {"text": "".join(chunk.delta.message.content for chunk in ask(stream=True))},
        "tools": [
            {"name": one.function.name, "args": json.loads(one.function.arguments)}
            for one in asked.message.tool_calls
        ],
        "embeddings": [len(one) for one in embedded.embeddings],
        **refusals(lambda key, model: ask(key, model, stream=False)),
    }


if __name__ == "__main__":
    programs = {each.__name__: each for each in (dify, langchain, litellm, llamaindex)}
    print(json.dumps(programs[sys.argv[1]]()))
