// Uses a gateway with Vercel's AI SDK and prints what its users would see, as one JSON object.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, jsonSchema, streamText, tool } from "ai";
import { report } from "./counting.mjs";

const { BASE_URL: baseURL, API_KEY: apiKey, POOR_KEY: poorKey, MODEL: model } = process.env;
const prompt = "Hello";
const weather = tool({
  description: "Tells the weather.",
  inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }),
});

const embedding = "text-embedding-3-small";
const kinds = {
  compatible: (options) => {
    const provider = createOpenAICompatible({ name: "gateway", includeUsage: true, ...options });
    return { chat: provider, embedding: provider.textEmbeddingModel(embedding) };
  },
  chat: (options) => {
    const provider = createOpenAI(options);
    return { chat: provider.chat, embedding: provider.embedding(embedding) };
  },
  responses: (options) => {
    const provider = createOpenAI(options);
    return { chat: provider, embedding: provider.embedding(embedding) };
  },
};

const tokens = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];

async function streamed(options) {
  const said = [];
  const failures = [];
  const stream = streamText({ prompt, onError: ({ error }) => failures.push(error), ...options });
  for await (const text of stream.textStream) said.push(text);
  if (failures.length) throw failures[0];
  const [usage, end] = [await stream.usage, await stream.finishReason];
  return { text: said.join(""), usage: tokens(usage), end };
}

async function use(make) {
  const own = make({ baseURL, apiKey });
  const chat = own.chat(model);
  const answer = await generateText({ model: chat, prompt });
  const asked = await generateText({ model: chat, prompt, tools: { weather } });
  const vectors = await embedMany({ model: own.embedding, values: ["one", "two"] });
  const refused = (key, name) =>
    report((fetch) => streamed({ model: make({ baseURL, apiKey: key, fetch }).chat(name) }));
  return {
    chat: { text: answer.text, usage: tokens(answer.usage), end: answer.finishReason },
    stream: await streamed({ model: chat }),
    tools: asked.toolCalls.map(({ toolName, input }) => ({ name: toolName, args: input })),
    embeddings: vectors.embeddings.map((one) => one.length),
    stranger: await refused("sk-x", model),
    poor: await refused(poorKey, model),
    unknown: await refused(apiKey, "no-such-model"),
  };
}

// At once, since the SDK asks again and again, and waits in between, where there is no money.
const entries = Object.entries(kinds).map(async ([kind, make]) => [kind, await use(make)]);
console.log(JSON.stringify(Object.fromEntries(await Promise.all(entries))));
