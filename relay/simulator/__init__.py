"""The built-in simulated upstream: an ASGI application that answers as OpenAI does, at no cost.

| endpoint under `/v1` | what it does |
|---|---|
| `POST chat/completions`, `completions` | texts, tool calls, JSON; whole or streamed |
| `POST embeddings`, `moderations` | every form of input; vectors as numbers or base64 |
| `POST responses` | items of every common kind; whole, streamed or in the background |
| `GET`, `DELETE responses/{id}`; `POST .../cancel`, `GET .../input_items` | what was stored |
| `POST responses/compact`, `responses/input_tokens` | |
| `POST conversations`; `GET`, `DELETE conversations/{id}` | enough to respond within one |
| `POST images/generations`, `edits`, `variations` | JSON and forms; streamed partial images |
| `POST audio/speech` | silence in six formats, as bytes or as events |
| `POST audio/transcriptions`, `translations` | forms; all formats of answers; streamed |
| `GET models`, `models/{id}` | |
| `GET organization/usage/{kind}`, `.../costs` | with a key like `sk-admin...`, by day and model |

Everything else is an OpenAI-shaped 404. Any non-empty bearer key is good, except `sk-invalid`
(401). Every id that looks like a model name is a known model, except those that begin with
`unknown` (404); endpoints with a family of models of their own take no other models.

**Deterministic.** An answer depends on the request's bytes alone: ids and `created` come from
their SHA-256, no clock and no randomness is read. Only responses remember: each gets an id of its
own (the first of equal requests the same in every run), and is known, as a conversation is, to
nobody but the credential that made it. A background response is queued, in progress when it is
first looked at, and completed after that. What the organization used is counted, too, for all keys
and by days of the clock: a million input tokens cost $1, output tokens $2, any other call $0.01.

**Usage** is counted with the offline tokenizer, o200k_base or cl100k_base by the model's age.
Prompt: 3 for each message, the tokens of its strings (role, content, name, tool calls ...), 1 for
a name, 3 once to prime the reply, and the tokens of the JSON of `tools` (or `functions`) and of a
JSON schema. Parts that are not text have fixed prices: an image 85 with `detail: low`, else 765;
`input_audio` 250, which also appear as `audio_tokens`; a `file` 1,000. Completion: the tokens of
the text really sent; for a tool call those of its name and arguments. Prompts are counted exactly
up to a million characters, and beyond that at four characters a token. Responses count alike, and
with what was said before. Images of `gpt-image` models: the tokens of the prompt, 323 for an input
image, 272, 1,056 or 4,160 by quality for an output of 1,024 by 1,024 pixels and as many more as
it is larger, 100 for a partial image; those of `dall-e` models, moderations and translations report
none. Speech: tokens of the texts, and 20 a second at 100 characters a second, reported in events
only. Transcriptions: seconds, begun ones whole, with `whisper` models, else 10 tokens a second and
those of the prompt; a WAV is as long as it is, anything else is taken for 128 kbit/s.

**Knobs.** A body may carry `"simulate": {...}` (a form: a field of this name with the JSON); a
field that is not in this list is a 400.

| field | meaning |
|---|---|
| `tag` | counts and finds this call in `GET /simulator/requests` |
| `text` | the exact answer, instead of the demo text (`n` times: up to a million characters) |
| `refusal` | true: the text is sent as a refusal |
| `chunks` | number of content chunks; a demo text is lengthened to have as many tokens |
| `content_filter` | true: a filter ends the text |
| `failed` | a response fails, with `{"message", "code"}` of its error |
| `reasoning`, `reasoning_text` | text of a response's summary of its reasoning, or the latter |
| `web_search_actions` | what its web searches do: `search`, `open_page`, `find_in_page` |
| `file_search_calls`, `code_interpreter_calls`, `image_generation_calls` | how many it makes |
| `tool_usage` | true: a response sums up its web searches and images |
| `later` | knobs of later calls about the response: `GET`, `DELETE`, `cancel`, `input_items` |
| `seconds` | how long a sound is, spoken or heard |
| `delay_ms`, `chunk_delay_ms` | wait before the head; before each write of the body but the first |
| `prompt_tokens`, `completion_tokens`, `total_tokens` | reported instead of what was counted |
| `cached_tokens`, `cache_write_tokens`, `audio_tokens`, `image_tokens` | prompt details |
| `reasoning_tokens` | completion detail, part of `completion_tokens` unless that is given too |
| `output_audio_tokens` | completion detail `audio_tokens` |
| `accepted_prediction_tokens`, `rejected_prediction_tokens` | completion details |
| `usage` | any JSON, reported verbatim as the usage |
| `usage_more` | merged into the usage: unknown fields, at any depth |
| `model`, `service_tier` | reported instead of what was asked for |
| `status`, `error` | an error status, and `{"message", "type", "code", "param"}` of its body |
| `retry_after`, `retry_after_ms` | headers; "" leaves out the default that 429 and 503 carry |
| `headers` | further response headers, name to value; they replace ours of the same name |
| `fault` | one of the faults below |
| `framing` | one of the last six faults of a stream, together with another fault |
| `after_chunks` | how many content chunks go out before the fault (default 1; 0: the head only) |
| `bytes` | size for `big_line` (default 1,000,000) and `gzip` |

A declared tool is called once unless a knob says how often; counts have the names of chat
completions at every endpoint (`prompt_tokens` are `input_tokens` elsewhere).

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
| `error_event_first`, `error_event_after` | an error event, then `[DONE]` where streams have one |
| `truncated` | an orderly end of the body after `after_chunks`: no finish, no usage, no `[DONE]` |
| `no_done` | everything but `[DONE]` |
| `done_without_usage` | everything but the chunk (or the last event) with the usage |
| `usage_twice` | two usage chunks, the first with doubled counts |
| `data_after_done` | after `[DONE]` a content chunk, a usage chunk of ones and a second `[DONE]` |
| `crlf`, `cr`, `bom`, `comments`, `event_lines`, `multi_line` | the same events, framed otherwise |

What ASGI cannot play (a connection reset, 1xx floods, a close before the head) is not here.

**What came in.** `GET /simulator/requests[?tag=]` gives `{"total", "data": [...]}`: how many calls
came (with that tag), and the newest of them, oldest first, with headers (credentials without their
middle), body, size and SHA-256, and how the answer ended: `outcome` is `open`, `complete`, `cut`
or `client_left`, `writes` the number of body writes. `DELETE /simulator/requests` forgets all,
responses and conversations too.
"""

from relay.simulator.asgi import Simulator

__all__ = ["application"]

application = Simulator()
