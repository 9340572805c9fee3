// What the Node drivers share: one JSON object a line on stdin says what to do, one on stdout says
// what the client returned or raised. Names are in snake_case on the way in and out, as the tests'.
'use strict';

const readline = require('node:readline');

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

// A resource's properties as its user finds them.
function seen(resource) {
  const found = {};
  for (const [name, value] of Object.entries(resource.toJSON())) {
    const snake = name.replace(/[A-Z]/g, (letter) => '_' + letter.toLowerCase()).replace(/^from$/, 'from_');
    found[snake] = value instanceof Date ? { date: value.toISOString() } : value;
  }
  return found;
}

// Parameters as the client takes them.
function options(fields) {
  const found = {};
  for (const [name, value] of Object.entries(fields)) {
    found[camel(name)] = name.startsWith('date_') ? new Date(value) : value;
  }
  return found;
}

async function serve(verbs) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { do: name, ...fields } = JSON.parse(line);
    let answer;
    try {
      answer = { returned: await verbs[name](fields) };
    } catch (error) {
      const { status = null, code = null, message } = error;
      answer = { raised: { type: error.constructor.name, status, code, message } };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
}

module.exports = { options, seen, serve };
