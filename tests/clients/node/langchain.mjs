// Uses a gateway with LangChain.js and prints what its users would see, as one JSON object.
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { report } from "./counting.mjs";

const { BASE_URL: baseURL, API_KEY: apiKey, POOR_KEY: poorKey, MODEL: model } = process.env;
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
};

const client = (key, { fetch, ...fields } = {}) =>
  new ChatOpenAI({ model, apiKey: key, configuration: { baseURL, fetch }, ...fields });
const refused = (key, fields) =>
  report((fetch) => client(key, { fetch, ...fields }).invoke("Hello"));
const own = client(apiKey);
const tokens = ({ input_tokens, output_tokens }) => [input_tokens, output_tokens];
const answer = await own.invoke("Hello");
const asked = await own.bindTools([weather]).invoke("Hello");
const chunks = [];
for await (const chunk of await own.stream("Hello")) chunks.push(chunk);
const vectors = await new OpenAIEmbeddings({
  model: "text-embedding-3-small",
  apiKey,
  configuration: { baseURL },
}).embedDocuments(["one", "two"]);

console.log(
  JSON.stringify({
    chat: { text: answer.content, usage: tokens(answer.usage_metadata) },
    stream: {
      text: chunks.map((chunk) => chunk.content).join(""),
      usage: tokens(chunks.map((chunk) => chunk.usage_metadata).find(Boolean)),
    },
    tools: asked.tool_calls.map(({ name, args }) => ({ name, args })),
    embeddings: vectors.map((one) => one.length),
    stranger: await refused("sk-x"),
    poor: await refused(poorKey),
    unknown: await refused(apiKey, { model: "no-such-model" }),
  }),
);
