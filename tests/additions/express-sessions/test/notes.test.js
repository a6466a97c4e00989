'use strict';

process.env.NODE_ENV = 'test';

const assert = require('node:assert/strict');
const { after, before, test } = require('node:test');

const app = require('../app');

let server;
let base;

before(async () => {
  server = app.listen(0);
  await new Promise((resolve) => server.once('listening', resolve));
  base = `http://127.0.0.1:${server.address().port}`;
});

after(() => new Promise((resolve) => server.close(resolve)));

const post = (path, body, cookie = '') =>
  fetch(base + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', cookie },
    body: JSON.stringify(body),
  });

async function login(email, password) {
  const answer = await post('/login', { email, password });
  return { status: answer.status, cookie: (answer.headers.get('set-cookie') || '').split(';')[0] };
}

test('nobody gets in without the password', async () => {
  assert.equal((await login('ann@example.com', 'no')).status, 401);
  assert.equal((await fetch(base + '/me')).status, 401);
  assert.equal((await fetch(base + '/notes')).status, 401);
});

test('a note is written and read by whoever is logged in', async () => {
  const { cookie } = await login('ann@example.com', 'canary-bird of ann');
  const me = await (await fetch(base + '/me', { headers: { cookie } })).json();
  assert.deepEqual(me, { id: 1, email: 'ann@example.com' });
  assert.equal((await post('/notes', { text: 'hello' }, cookie)).status, 201);
  const { notes } = await (await fetch(base + '/notes', { headers: { cookie } })).json();
  assert.deepEqual(notes, [{ id: 1, text: 'hello', by: 1 }]);
});

test('the page is there, and what is not is told', async () => {
  assert.match(await (await fetch(base + '/')).text(), /<h1>Notes/);
  const missing = await fetch(base + '/nothing');
  assert.equal(missing.status, 404);
  assert.deepEqual(await missing.json(), { error: 'not found' });
});
