// Uses a gateway with the official SDK and prints what its users would see, as one JSON object.
import OpenAI from "openai";

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL: model } = process.env;
const { POOR_KEY: poorKey, SUSPENDED_KEY: suspendedKey } = process.env;

let sent = 0;
const options = {
  baseURL,
  apiKey,
  fetch: (...request) => {
    sent += 1;
    return fetch(...request);
  },
};
const client = new OpenAI(options);
const messages = [{ role: "user", content: "Hello" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } } },
    },
  },
];

const create = (fields = {}, user = client) =>
  user.chat.completions.create({ model, messages, ...fields });

async function collected(fields) {
  const chunks = [];
  for await (const chunk of await create({ stream: true, ...fields })) chunks.push(chunk);
  return chunks;
}

async function refusal(fields, user = client) {
  sent = 0;
  try {
    await create(fields, user);
  } catch (error) {
    const { status, code, type, param, requestID } = error;
    return { kind: error.constructor.name, status, code, type, param, requestID, sent };
  }
  throw new Error("It was not refused.");
}

async function streamError(fields) {
  const seen = [];
  try {
    for await (const chunk of await create({ stream: true, ...fields })) seen.push(chunk);
  } catch (error) {
    return { kind: error.constructor.name, code: error.code, chunks: seen.length };
  }
  throw new Error("The stream ended well.");
}

async function modelIds() {
  const ids = [];
  for await (const one of client.models.list()) ids.push(one.id);
  return ids;
}

const answer = await create();
const helper = client.chat.completions.stream({ model, messages, tools });
const poor = new OpenAI({ ...options, apiKey: poorKey });
const suspended = new OpenAI({ ...options, apiKey: suspendedKey });
const stranger = new OpenAI({ ...options, apiKey: `${apiKey}x` });
const padding = "x".repeat(32 * 2 ** 20);
const turns = [
  { role: "user", content: "One" },
  { role: "assistant", content: "Yes?" },
  { role: "user", content: "Two" },
];

console.log(
  JSON.stringify({
    chat: { ...answer, requestID: answer._request_id },
    plainStream: await collected(),
    usageStream: await collected({ stream_options: { include_usage: true } }),
    tools: await create({ tools }),
    streamedTools: await helper.finalChatCompletion(),
    jsonMode: await create({ response_format: { type: "json_object" } }),
    turns: await create({ messages: turns }),
    models: await modelIds(),
    model: await client.models.retrieve(model),
    authentication: await refusal({}, stranger),
    permission: await refusal({}, suspended),
    notFound: await refusal({ model: "no-such-model" }),
    badRequest: await refusal({ n: 0 }),
    tooLarge: await refusal({ padding }),
    largeAndUnknown: await refusal({ padding }, stranger),
    noMoney: await refusal({}, poor),
    upstreamFailed: await refusal({ simulate: { status: 500 } }),
    brokenStream: await streamError({ simulate: { fault: "truncated", after_chunks: 2 } }),
  }),
);
