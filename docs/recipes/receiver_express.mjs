// Receiver of Waterhook's webhooks with Express. It verifies, stores, answers, and works afterwards.
//
//     npm install express@5 "standardwebhooks@^1.1"
//     WEBHOOK_SECRET="whsec_…" node receiver_express.mjs
//
// Run it behind a proxy that terminates TLS. Replace `save()` with your own work. It needs Node.js 22.13 or newer, for
// node:sqlite. Node.js 24 does not call that module stable yet. The package better-sqlite3 has the same calls:
// replace the import with `import DatabaseSync from "better-sqlite3"`.
import { DatabaseSync } from "node:sqlite";
import express from "express";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const MAX_BODY_BYTES = 256 * 1024;
const MAX_OUTPUT_BYTES = 50 * 1024 * 1024; // the longest output that Waterhook stores
const MAX_ATTEMPTS = 12; // about six hours; after them the event stays in the table with its body
const FIRST_RETRY_S = 60;
const LONGEST_RETRY_S = 3600;
// Longer than records are stored (RecordRetentionDays, 30): until then `waterhook resend` can send an event again.
const KEPT_S = 45 * 86_400;

process.umask(0o077); // the database has the data of customers: only this user may read it
const database = new DatabaseSync(process.env.DATABASE ?? "webhooks.sqlite", { timeout: 5000 });
database.exec(`
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS inbox (
    id TEXT PRIMARY KEY, body TEXT, attempts INTEGER NOT NULL, due_at REAL NOT NULL, done_at REAL);
  CREATE INDEX IF NOT EXISTS inbox_due ON inbox (due_at) WHERE done_at IS NULL;
  CREATE INDEX IF NOT EXISTS inbox_done ON inbox (done_at);
  CREATE TABLE IF NOT EXISTS results (
    execution_id TEXT PRIMARY KEY, status TEXT, time TEXT, sequence INTEGER, error TEXT, output TEXT);
`);

// Returns the value of JSON text; null if it is not JSON. Whole numbers above 2^53 keep their digits.
function parsed(text) {
  const keepDigits = (_key, value, { source }) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) ? JSON.rawJSON(source) : value;
  try {
    return JSON.parse(text, keepDigits);
  } catch {
    return null;
  }
}

// ---- Your work -----------------------------------------------------------------------------------------------

// Returns the output as JSON text; null without one, and for `thin`: read it with GET of the API.
// Put slow work here, before the transaction of `save()`. It may run again after a crash: pass `event.id` on as the
// idempotency key.
async function fetchOutput(event) {
  const { final_output: output, final_output_url: url } = event.data;
  if (!url) return output == null ? null : JSON.stringify(output);
  if (!url.startsWith("https://")) throw new Error("data.final_output_url: expected an https URL");
  const answer = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(60_000) });
  if (!answer.ok) throw new Error(`the link to the output: HTTP ${answer.status}`);
  const chunks = [];
  let length = 0;
  for await (const chunk of answer.body) {
    length += chunk.length;
    if (length > MAX_OUTPUT_BYTES) throw new Error(`the output is longer than ${MAX_OUTPUT_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

const saveProgress = database.prepare(`
  INSERT INTO results (execution_id, status, time, sequence) VALUES (?, ?, ?, ?)
  ON CONFLICT DO UPDATE SET time = excluded.time, sequence = excluded.sequence
  WHERE status = 'RUNNING' AND sequence < excluded.sequence`);
const saveOutcome = database.prepare(`
  INSERT INTO results (execution_id, status, time, error, output) VALUES (?, ?, ?, ?, ?)
  ON CONFLICT DO UPDATE SET status = excluded.status, time = excluded.time, error = excluded.error,
    output = excluded.output
  WHERE status = 'RUNNING' OR time <= excluded.time`);

// Writes the result of one event. All writes to `database` are committed together with the mark `done_at`.
function save({ type, time, data }, output) {
  if (type === "waterhook.execution.progress") {
    // Events arrive in any order: an older one changes nothing, and none changes an outcome.
    saveProgress.run(data.execution_id, data.status, time, data.sequence);
  } else if (type.startsWith("waterhook.execution.")) {
    // The status may be one that this code does not have: store it, and treat it as not completed.
    const error = data.error?.code ?? data.output_error ?? null;
    saveOutcome.run(data.execution_id, data.status, time, error, output);
  }
  // Other types, such as waterhook.webhook.test, and those of later versions need no work.
}

// ---- Inbox: each event once, under its webhook-id ------------------------------------------------------------

// A repetition replaces the body until the work is done, because its link to the output is new.
const put = database.prepare(`
  INSERT INTO inbox (id, body, attempts, due_at) VALUES (?, ?, 0, ?)
  ON CONFLICT DO UPDATE SET body = excluded.body, attempts = 0 WHERE done_at IS NULL`);
// Sets the time of the next attempt before this one begins: after a crash or an error, the event is due again then.
const claim = database.prepare(`
  UPDATE inbox SET attempts = attempts + 1, due_at = ? + min(?, ? * (1 << attempts))
  WHERE id = (SELECT id FROM inbox WHERE done_at IS NULL AND due_at <= ? AND attempts < ? ORDER BY due_at LIMIT 1)
  RETURNING id, body, attempts`);
const mark = database.prepare("UPDATE inbox SET done_at = ?, body = NULL WHERE id = ? AND done_at IS NULL");
const clean = database.prepare("DELETE FROM inbox WHERE done_at < ?");

function finish(id, event, output) {
  const now = Date.now() / 1000;
  database.exec("BEGIN IMMEDIATE");
  try {
    // Only the first of two processes marks it, if the work of one took longer than its retry.
    if (mark.run(now, id).changes) save(event, output);
    clean.run(now - KEPT_S);
    database.exec("COMMIT");
  } catch (error) {
    database.exec("ROLLBACK");
    throw error;
  }
}

// Works on one event that is due. Returns whether there was one.
async function workOnce() {
  const now = Date.now() / 1000;
  const claimed = claim.get(now, LONGEST_RETRY_S, FIRST_RETRY_S, now, MAX_ATTEMPTS);
  if (!claimed) return false;
  try {
    const event = parsed(claimed.body);
    finish(claimed.id, event, await fetchOutput(event));
    console.log(`processed ${claimed.id}`);
  } catch (error) {
    // Not the text of the error: it may contain the link or the output.
    console.error(`failed ${claimed.id} attempt=${claimed.attempts} error=${error.name}`);
  }
  return true;
}

let isWorking = false;
async function work() {
  if (isWorking) return;
  isWorking = true;
  try {
    while (await workOnce());
  } catch (error) {
    console.error(`inbox: ${error.message}`);
  } finally {
    isWorking = false;
  }
}

// ---- HTTP ----------------------------------------------------------------------------------------------------

// One secret, or several with spaces between them while secrets are rotated.
const secrets = (process.env.WEBHOOK_SECRET ?? "").split(/\s+/).filter(Boolean);
if (!secrets.length || !secrets.every((secret) => secret.startsWith("whsec_"))) {
  console.error("WEBHOOK_SECRET: expected `whsec_…`, which `waterhook webhook-secret HOST` prints.");
  process.exit(1);
}
const webhooks = secrets.map((secret) => new Webhook(secret));

// Returns why a request is refused; null if one of the secrets signed these bytes at most five minutes ago.
function refusalOf(body, headers) {
  if (!body) return "no body";
  let reason = null;
  for (const webhook of webhooks) {
    try {
      webhook.verify(body, headers, { jsonParse: false });
      return null;
    } catch (error) {
      reason = error instanceof WebhookVerificationError ? error.message : "a malformed header";
    }
  }
  return reason;
}

const app = express();
app.disable("x-powered-by");
// The body as it arrived, with any Content-Type. JSON that is parsed and written again has another signature.
const raw = express.raw({ type: () => true, limit: MAX_BODY_BYTES, inflate: false });
// Answers 2xx only if the event is stored, also if it was stored before. Waterhook repeats all else.
app.post("/waterhook", raw, (request, response) => {
  const body = request.body; // undefined if the request has none
  const reason = refusalOf(body, request.headers);
  if (reason) {
    console.error(`refused: ${reason}`);
    return response.sendStatus(401);
  }
  const event = parsed(body);
  if (typeof event?.type !== "string" || typeof event.data !== "object" || !event.data) {
    console.error("refused: signed, but no event");
    return response.sendStatus(400);
  }
  try {
    put.run(request.get("webhook-id"), body.toString(), Date.now() / 1000);
  } catch (error) {
    console.error(`not stored: ${error.message}`);
    return response.sendStatus(503);
  }
  response.sendStatus(204);
  work();
});
// For example 413 for a body that is too long. Without it, Express would answer with the stack of the error.
app.use((error, _request, response, _next) => response.sendStatus(error.status ?? 500));

const server = app.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", (error) => {
  if (error) throw error;
  console.log(`http://127.0.0.1:${server.address().port}/waterhook`);
});
server.requestTimeout = 15_000;
work(); // what an earlier process left
setInterval(work, 1000); // retries
// What is unfinished when the process ends is in the inbox.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
