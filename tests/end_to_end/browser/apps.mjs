// What apps in a browser ask, and how each of them reads what it gets.
import OpenAI from "/openai/index.mjs";

const JSON_TYPE = "application/json";
const HELLO = [{ role: "user", content: "Hello" }];

const headersOf = ({ key }) => ({ "Content-Type": JSON_TYPE, Authorization: `Bearer ${key}` });

// Each piece is decoded by itself, as several apps do it: no character may be cut.
async function* eventsOf(response) {
  const reader = response.body.getReader();
  let rest = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const events = (rest + new TextDecoder().decode(piece.value)).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (event.startsWith("data: ")) yield event.slice("data: ".length);
    }
  }
}

async function textOf(response) {
  let text = "";
  for await (const event of eventsOf(response)) {
    if (event === "[DONE]") return { text, done: true };
    text += JSON.parse(event).choices[0]?.delta.content ?? "";
  }
  return { text, done: false };
}

async function nextChat({ origin, ...user }) {
  const headers = { ...headersOf(user), Accept: JSON_TYPE };
  const response = await fetch(`${origin}/v1/chat/completions`, {
    method: "POST",
    headers,
    body: JSON.stringify({
      messages: HELLO,
      stream: true,
      model: user.model,
      temperature: 0.5,
      presence_penalty: 0,
      frequency_penalty: 0,
      top_p: 1,
    }),
  });
  const type = response.headers.get("content-type");
  if (!type.startsWith("text/event-stream")) return { shown: await response.json() };
  return textOf(response);
}

async function nextChatBalance({ origin, ...user }) {
  const headers = { ...headersOf(user), Accept: JSON_TYPE };
  const day = (date) => date.toISOString().slice(0, 10);
  const [first, tomorrow] = [`${day(new Date()).slice(0, 8)}01`, day(new Date(Date.now() + 864e5))];
  const dates = `?start_date=${first}&end_date=${tomorrow}`;
  const [used, granted] = await Promise.all([
    fetch(`${origin}/dashboard/billing/usage${dates}`, { headers }),
    fetch(`${origin}/dashboard/billing/subscription`, { headers }),
  ]);
  if (!used.ok || !granted.ok) return { statuses: [used.status, granted.status] };
  const { total_usage: cents } = await used.json();
  const { hard_limit_usd: dollars } = await granted.json();
  return { cents, dollars };
}

async function chatHub({ origin, ...user }) {
  const response = await fetch(`${origin}/v1/chat/completions`, {
    method: "POST",
    headers: headersOf(user),
    body: JSON.stringify({ model: user.model, messages: HELLO, stream: true }),
  });
  if (!response.ok) return { shown: await response.json() };
  return textOf(response);
}

async function translator({ origin, ...user }) {
  const headers = headersOf(user);
  const listed = await fetch(`${origin}/v1/models`, { headers });
  const body = { model: user.model, temperature: 0, top_p: 1 };
  const penalties = { frequency_penalty: 1, presence_penalty: 1 };
  const response = await fetch(`${origin}/v1/chat/completions`, {
    method: "POST",
    headers: { ...headers, "User-Agent": "Mozilla/5.0 chatall/1.29.40" },
    body: JSON.stringify({ ...body, ...penalties, stream: true, messages: HELLO }),
  });
  const models = (await listed.json()).data?.map((model) => model.id);
  if (!response.ok) return { models, shown: await response.json() };
  return { models, ...(await textOf(response)) };
}

// In its "client request mode" Lobe Chat has the SDK in the page.
async function lobeChat({ origin, key, model }) {
  const client = new OpenAI({ baseURL: `${origin}/v1`, apiKey: key, dangerouslyAllowBrowser: true });
  const own = { enabledContextCaching: false, thinking: { type: "disabled", budget_tokens: 0 } };
  try {
    const models = [];
    for await (const one of client.models.list()) models.push(one.id);
    const stream = await client.chat.completions.create(
      { messages: HELLO, model, stream: true, stream_options: { include_usage: true }, ...own },
      { headers: { Accept: "*/*" } },
    );
    let [text, usage] = ["", null];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return { models, text, usage, done: true };
  } catch (error) {
    const { status, code, requestID } = error;
    return { status, code, requestID, shown: { error: error.error } };
  }
}

window.apps = { nextChat, nextChatBalance, chatHub, translator, lobeChat };
