// npm's @signalwire/compatibility-api, used as its users do. docs/migrating.md quotes what is between the marks.
'use strict';

const fs = require('node:fs');
const { RestClient } = require('@signalwire/compatibility-api');
const { options, seen, serve } = require('./driver.js');

const config = JSON.parse(process.argv[2]);
const { account_sid: accountSid, auth_token: authToken, url: callreelUrl, host } = config;

// begin: connect
const client = RestClient(accountSid, authToken, {
  signalwireSpaceUrl: host, // 'callreel.example.com'
});
// end: connect
if (config.ca_file === null) {
  // begin: plain
  client.api.baseUrl = callreelUrl; // 'http://127.0.0.1:8080'
  // end: plain
  client.api.baseUrl += config.prefix;
}

async function start({ call_sid: callSid, webhook_url: webhookUrl }) {
  // begin: start
  const recording = await client.calls(callSid).recordings.create({
    recordingChannels: 'dual',
    recordingTrack: 'both',
    trim: 'do-not-trim',
    recordingStatusCallback: webhookUrl,
    recordingStatusCallbackMethod: 'POST',
    recordingStatusCallbackEvent: ['in-progress', 'completed', 'absent'],
  });
  // end: start
  return seen(recording);
}

async function start_with({ call_sid: callSid, ...parameters }) {
  return seen(await client.calls(callSid).recordings.create(options(parameters)));
}

async function pause({ call_sid: callSid, behavior }) {
  // begin: pause
  const current = client.calls(callSid).recordings('Twilio.CURRENT');
  const recording = await current.update({
    status: 'paused',
    pauseBehavior: behavior, // 'skip' or 'silence'
  });
  // end: pause
  return seen(recording);
}

async function resume({ call_sid: callSid, recording_sid: recordingSid }) {
  // begin: resume
  const context = client.calls(callSid).recordings(recordingSid);
  const recording = await context.update({ status: 'in-progress' });
  // end: resume
  return seen(recording);
}

async function stop({ call_sid: callSid, recording_sid: recordingSid }) {
  // begin: stop
  const context = client.calls(callSid).recordings(recordingSid);
  const recording = await context.update({ status: 'stopped' });
  // end: stop
  return seen(recording);
}

async function fetch_({ recording_sid }) {
  return seen(await client.recordings(recording_sid).fetch());
}

async function fetch_of_call({ call_sid, recording_sid }) {
  return seen(await client.calls(call_sid).recordings(recording_sid).fetch());
}

async function recordings(filters) {
  return (await client.recordings.list(options(filters))).map(seen);
}

function each_recording(filters) {
  return new Promise((resolve, reject) => {
    const found = [];
    const done = (error) => (error ? reject(error) : resolve(found));
    client.recordings.each({ ...options(filters), done }, (one) => {
      found.push(seen(one));
    });
  });
}

// The SIDs of all pages, forward to the last and back to the first.
async function there_and_back(filters) {
  const found = [];
  const take = (page) => {
    found.push(...page.instances.map((one) => one.sid));
    return page;
  };
  let page = take(await client.recordings.page(options(filters)));
  let pages = 1;
  for (let next; (next = await page.nextPage()) !== undefined; pages += 1) page = take(next);
  for (; pages > 1; pages -= 1) page = take(await page.previousPage());
  return found;
}

async function recordings_of_call({ call_sid, day }) {
  const filters = day === undefined ? {} : { dateCreated: new Date(day) };
  const found = await client.calls(call_sid).recordings.list({ limit: 20, ...filters });
  return found.map(seen);
}

async function download({ recording_sid: recordingSid, suffix, path }) {
  // begin: download
  const recording = await client.recordings(recordingSid).fetch();
  const url = callreelUrl + recording.uri.replace('.json', suffix); // '.wav', '.mp3'
  const credentials = Buffer.from(`${accountSid}:${authToken}`).toString('base64');
  const answer = await fetch(url, { headers: { Authorization: `Basic ${credentials}` } });
  // end: download
  return kept(answer, path);
}

async function download_part({ recording_sid, byte_range, path }) {
  const { uri } = await client.recordings(recording_sid).fetch();
  const credentials = Buffer.from(`${accountSid}:${authToken}`).toString('base64');
  const headers = { Authorization: `Basic ${credentials}`, Range: byte_range };
  return kept(await fetch(callreelUrl + uri.replace('.json', ''), { headers }), path);
}

async function kept(answer, path) {
  fs.writeFileSync(path, Buffer.from(await answer.arrayBuffer()));
  return { status: answer.status, headers: Object.fromEntries(answer.headers) };
}

async function delete_({ recording_sid }) {
  return client.recordings(recording_sid).remove();
}

async function delete_of_call({ call_sid, recording_sid }) {
  return client.calls(call_sid).recordings(recording_sid).remove();
}

async function calls({ from_, ...filters }) {
  return (await client.calls.list({ ...options(filters), from: from_ })).map(seen);
}

async function create_call({ to, from_, url, ...more }) {
  return seen(await client.calls.create({ to, from: from_, url, ...options(more) }));
}

async function call({ call_sid }) {
  return seen(await client.calls(call_sid).fetch());
}

async function update_call({ call_sid, status }) {
  return seen(await client.calls(call_sid).update({ status }));
}

async function delete_call({ call_sid }) {
  return client.calls(call_sid).remove();
}

async function conference_recordings({ conference_sid }) {
  return (await client.conferences(conference_sid).recordings.list({ limit: 20 })).map(seen);
}

async function conference_recording({ conference_sid, recording_sid }) {
  return seen(await client.conferences(conference_sid).recordings(recording_sid).fetch());
}

async function call_with_token({ call_sid, token }) {
  const stranger = RestClient(accountSid, token, { signalwireSpaceUrl: host });
  stranger.api.baseUrl = client.api.baseUrl;
  return seen(await stranger.calls(call_sid).fetch());
}

async function is_genuine({ url, fields, signature }) {
  // begin: webhook
  const genuine = RestClient.validateRequest(authToken, signature, url, fields);
  // end: webhook
  return genuine;
}

async function refused_in_words({ call_sid: callSid }) {
  // begin: errors
  try {
    await client.calls(callSid).recordings.create();
  } catch (error) {
    return `${error.status} ${error.code}: ${error.message}`;
  }
  // end: errors
  return '';
}

serve({
  start,
  start_with,
  pause,
  resume,
  stop,
  fetch: fetch_,
  fetch_of_call,
  recordings,
  each_recording,
  there_and_back,
  recordings_of_call,
  download,
  download_part,
  delete: delete_,
  delete_of_call,
  calls,
  create_call,
  call,
  update_call,
  delete_call,
  conference_recordings,
  conference_recording,
  call_with_token,
  is_genuine,
  refused_in_words,
});
