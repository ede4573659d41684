// Verifies webhook requests with the npm package `standardwebhooks`.
// Reads a JSON list of {secret, headers, body} from standard input. Prints a JSON list: null if a request is valid,
// else the message of the error.
const { readFileSync } = require("node:fs");
const { Webhook } = require("standardwebhooks");

function problem({ secret, headers, body }) {
  try {
    new Webhook(secret).verify(body, headers);
    return null;
  } catch (error) {
    return error.message;
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(problem)));
