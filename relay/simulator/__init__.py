"""The built-in simulated upstream: an ASGI application that answers as OpenAI does, at no cost.

It serves `POST /v1/chat/completions`, `GET /v1/models` and `GET /v1/models/{id}`; everything else
is an OpenAI-shaped 404. Any non-empty bearer key is good, except `sk-invalid` (401). Every id that
looks like a model name is a known model, except those that begin with `unknown` (404).

**Deterministic.** An answer depends on the request's bytes alone: ids and `created` come from
their SHA-256, no clock and no randomness is read.

**Usage** is counted with the offline tokenizer, o200k_base or cl100k_base by the model's age.
Prompt: 3 for each message, the tokens of its strings (role, content, name, tool calls ...), 1 for
a name, 3 once to prime the reply, and the tokens of the JSON of `tools` (or `functions`) and of a
JSON schema. Parts that are not text have fixed prices: an image 85 with `detail: low`, else 765;
`input_audio` 250, which also appear as `audio_tokens`; a `file` 1,000. Completion: the tokens of
the text really sent; for a tool call those of its name and arguments. Prompts are counted exactly
up to a million characters, and beyond that at four characters a token.

**Knobs.** A body may carry `"simulate": {...}`; a field that is not in this list is a 400.

| field | meaning |
|---|---|
| `tag` | counts and finds this call in `GET /simulator/requests` |
| `text` | the exact answer, instead of the demo text (`n` times: up to a million characters) |
| `refusal` | true: the text is sent as a refusal |
| `chunks` | number of content chunks; a demo text is lengthened to have as many tokens |
| `delay_ms`, `chunk_delay_ms` | wait before the head; before each write of the body but the first |
| `prompt_tokens`, `completion_tokens`, `total_tokens` | reported instead of what was counted |
| `cached_tokens`, `cache_write_tokens`, `audio_tokens`, `image_tokens` | prompt details |
| `reasoning_tokens` | completion detail, part of `completion_tokens` unless that is given too |
| `output_audio_tokens` | completion detail `audio_tokens` |
| `accepted_prediction_tokens`, `rejected_prediction_tokens` | completion details |
| `usage` | any JSON, reported verbatim as the usage |
| `model`, `service_tier` | reported instead of what was asked for |
| `status`, `error` | an error status, and `{"message", "type", "code", "param"}` of its body |
| `retry_after`, `retry_after_ms` | headers; "" leaves out the default that 429 and 503 carry |
| `headers` | further response headers, name to value; they replace ours of the same name |
| `fault` | one of the faults below |
| `after_chunks` | how many content chunks go out before the fault (default 1; 0: the head only) |
| `bytes` | size for `big_line` (default 1,000,000) and `gzip` |

Faults of any answer:

| fault | what happens |
|---|---|
| `hang` | no head and no body until the client leaves |
| `cut` | the connection is closed after `after_chunks`, or in the middle of a JSON body |
| `garbage` | a body, or one event of the stream, that is half a JSON document |
| `html` | an HTML page, with `status` or 200 |
| `empty_body` | a head with `status` or 200 and a body of no bytes |
| `json_error_200` | a JSON error body with status 200, also where a stream was asked for |
| `redirect` | 302 (or a `status` of 3xx) to `/simulator/redirected` |
| `gzip` | compressed, asked for or not; with `bytes` it inflates to that size at least |
| `bad_content_length` | `content-length` promises ten bytes more than come before the close |
| `invalid_utf8` | bytes that are not UTF-8 inside the content |
| `big_line` | an unknown field of `bytes` bytes, in the body or in one more event |
| `split_bytes` | each byte (of the first 262,144) is a write of its own |
| `no_usage` | no usage anywhere, as if `stream_options` were unknown |
| `absurd_usage` | `usage`, or negative counts if there is none |

Faults of a stream; any other request that names one is a 400:

| fault | what happens |
|---|---|
| `silent_stream` | `after_chunks` chunks (default 0), then silence until the client leaves |
| `error_event_first`, `error_event_after` | an error event, then `[DONE]` |
| `truncated` | an orderly end of the body after `after_chunks`: no finish, no usage, no `[DONE]` |
| `no_done` | everything but `[DONE]` |
| `done_without_usage` | everything but the usage chunk |
| `usage_twice` | two usage chunks, the first with doubled counts |
| `data_after_done` | after `[DONE]` a content chunk, a usage chunk of ones and a second `[DONE]` |
| `crlf`, `cr`, `bom`, `comments`, `event_lines`, `multi_line` | the same events, framed otherwise |

What ASGI cannot play (a connection reset, 1xx floods, a close before the head) is not here.

**What came in.** `GET /simulator/requests[?tag=]` gives `{"total", "data": [...]}`: how many calls
came (with that tag), and the newest of them, oldest first, with headers (credentials without their
middle), body, size and SHA-256, and how the answer ended: `outcome` is `open`, `complete`, `cut`
or `client_left`, `writes` the number of body writes. `DELETE /simulator/requests` forgets all.
"""

from relay.simulator.asgi import Simulator

__all__ = ["application"]

application = Simulator()
