import http from 'node:http'
import { createApp } from './app.js'

const port = Number(process.env.PORT ?? 3000)
const server = http.createServer(createApp())

server.listen(port)
process.on('SIGTERM', () => server.close())
