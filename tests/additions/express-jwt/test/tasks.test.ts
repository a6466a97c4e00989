import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { createApp } from '../src/app.js'

const server = createApp().listen(0)
after(() => server.close())
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

async function send(path: string, body?: object, token = '') {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
  return fetch(base + path, body ? { method: 'POST', headers, body: JSON.stringify(body) } : { headers })
}

test('nobody sees a task without a login', async () => {
  assert.equal((await send('/tasks')).status, 401)
  assert.equal((await send('/login', { name: 'ann', password: 'no' })).status, 401)
})

test('a task is written by whoever is logged in', async () => {
  const login = await send('/login', { name: 'ann', password: 'canary-bird of ann' })
  const { token } = (await login.json()) as { token: string }
  assert.equal((await send('/tasks', { title: 'a' }, token)).status, 201)
  assert.deepEqual(await (await send('/tasks', undefined, token)).json(), { tasks: [{ title: 'a', by: 'ann' }] })
})
