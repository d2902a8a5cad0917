// Calls every endpoint with the official SDK and prints what its users would see, as one JSON object.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

const { BASE_URL: baseURL, API_KEY: apiKey, SOUND, PICTURE } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const sound = await readFile(SOUND);
const picture = await readFile(PICTURE);

const GPT_IMAGE = "gpt-image-1.5";
const WHISPER = "whisper-1";
const TRANSCRIBER = "gpt-4o-transcribe";
const chat = { model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello" }] };
const text = { model: "gpt-3.5-turbo-instruct", prompt: "Once upon a time" };
const response = { model: "gpt-5-mini", input: "Hello" };
const drawn = { model: GPT_IMAGE, prompt: "A cat", quality: "low" };
const embedding = "text-embedding-3-small";
const voice = { model: "gpt-4o-mini-tts", voice: "alloy", input: "Grüße, 世界!" };
const streamed = { stream: true, stream_options: { include_usage: true } };
const partial = { stream: true, partial_images: 2 };
const soundFile = () => toFile(sound, "a.wav");
const pictureFile = () => toFile(picture, "a.png", { type: "image/png" });

async function all(stream) {
  const seen = [];
  for await (const one of await stream) seen.push(one);
  return seen;
}

async function bytes(answer) {
  const { headers, status } = await answer;
  const body = Buffer.from(await (await answer).arrayBuffer());
  const sha256 = createHash("sha256").update(body).digest("hex");
  return { status, type: headers.get("content-type"), size: body.length, sha256 };
}

async function refusal(call) {
  try {
    await call;
  } catch (error) {
    const { status, code, type, param } = error;
    return { kind: error.constructor.name, status, code, type, param };
  }
  throw new Error("It was not refused.");
}

// A form with its file in front of the fields that decide the price, and larger than any buffer.
async function fileFirst(path, name, file, fields) {
  const form = new FormData();
  form.append(name, new Blob([file]), "a.wav");
  for (const [field, value] of Object.entries(fields)) form.append(field, value);
  const headers = { authorization: `Bearer ${apiKey}` };
  return (await fetch(`${baseURL}/${path}`, { method: "POST", body: form, headers })).json();
}

async function responses() {
  const first = await client.responses.create(response);
  const helper = client.responses.stream(response);
  const following = { ...response, input: "And now?", previous_response_id: first.id };
  const seen = {
    first,
    text: first.output_text,
    streamed: await all(client.responses.create({ ...response, stream: true })),
    helper: (await helper.finalResponse()).output_text,
    following: await client.responses.create(following),
    retrieved: await client.responses.retrieve(first.id),
    retrievedStream: await all(client.responses.retrieve(first.id, { stream: true })),
    inputItems: await all(client.responses.inputItems.list(first.id, { limit: 1 })),
    cancelled: await refusal(client.responses.cancel(first.id)),
    counted: await client.responses.inputTokens.count(response),
    compacted: await client.responses.compact(response),
    deleted: (await client.responses.delete(first.id)) ?? null,
  };
  return { ...seen, gone: await refusal(client.responses.retrieve(first.id)) };
}

const { images, audio } = client;
const transcribed = async (fields) =>
  audio.transcriptions.create({ file: await soundFile(), ...fields });
const large = Buffer.concat([sound, Buffer.alloc(3 * 2 ** 20)]);

console.log(
  JSON.stringify({
    chat: await client.chat.completions.create(chat),
    chatStream: await all(client.chat.completions.create({ ...chat, ...streamed })),
    completion: await client.completions.create({ ...text, n: 2 }),
    completionStream: await all(client.completions.create({ ...text, ...streamed })),
    embeddingsDecoded: await client.embeddings.create({ model: embedding, input: ["a", "b"] }),
    embeddings: await client.embeddings.create({
      model: embedding,
      input: [[1, 2], [3]],
      encoding_format: "float",
    }),
    moderation: await client.moderations.create({ input: "Hello" }),
    responses: await responses(),
    image: await images.generate({ model: "dall-e-3", prompt: "A cat", quality: "hd" }),
    imageByTokens: await images.generate({ ...drawn, n: 2 }),
    imageStream: await all(images.generate({ ...drawn, ...partial })),
    edit: await images.edit({ ...drawn, image: await pictureFile() }),
    editOfTwo: await images.edit({ ...drawn, image: [await pictureFile(), await pictureFile()] }),
    editStream: await all(images.edit({ ...drawn, ...partial, image: await pictureFile() })),
    variation: await images.createVariation({ image: await pictureFile(), size: "256x256" }),
    speech: await bytes(audio.speech.create({ ...voice, model: "tts-1" })),
    speechEvents: await bytes(audio.speech.create({ ...voice, stream_format: "sse" })),
    transcript: await transcribed({ model: WHISPER }),
    transcriptInDetail: await transcribed({ model: WHISPER, response_format: "verbose_json" }),
    transcriptText: await transcribed({ model: WHISPER, response_format: "text" }),
    transcriptSubtitles: await transcribed({ model: WHISPER, response_format: "srt" }),
    transcriptByTokens: await transcribed({ model: TRANSCRIBER }),
    transcriptStream: await all(transcribed({ model: TRANSCRIBER, stream: true })),
    translation: await audio.translations.create({ model: WHISPER, file: await soundFile() }),
    soundFirst: await fileFirst("audio/transcriptions", "file", large, { model: WHISPER }),
    pictureFirst: await fileFirst("images/edits", "image", picture, drawn),
  }),
);
