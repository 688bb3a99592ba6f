// A tool for agents with the npm client: the palindromes in a text.
// Run it: npm install && NATS_URL=nats://127.0.0.1:4222 NATS_NKEY=<seed file> node tool.mjs
import { readFile } from "node:fs/promises";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";

const about = {
  tool: "text.palindromes",
  description: "List the words of a text that read the same backwards.",
  repeatable: "true",
  input_schema: JSON.stringify({
    type: "object", required: ["text"], additionalProperties: false,
    properties: { text: { type: "string", maxLength: 10000 } },
  }),
  output_schema: JSON.stringify({
    type: "object", required: ["words"],
    properties: { words: { type: "array", items: { type: "string" } } },
  }),
};

const url = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const seed = process.env.NATS_NKEY ? await readFile(process.env.NATS_NKEY) : undefined;
const bus = await connect({
  servers: url.host,
  authenticator: seed && nkeyAuthenticator(new Uint8Array(seed)),
  user: url.username || undefined,
  pass: decodeURIComponent(url.password) || undefined,
});
const service = await new Svcm(bus).add({ name: "palindromes", version: "1.0.0" });
service.addEndpoint("palindromes", {
  subject: "tool.text.palindromes",
  metadata: about,
  handler: (error, request) => {
    if (error) return;
    const words = request.json().text.toLowerCase().match(/\p{L}{3,}/gu) ?? [];
    const found = words.filter((word) => word === [...word].reverse().join(""));
    request.respond(JSON.stringify({ words: [...new Set(found)] }));
  },
});
await bus.closed();
