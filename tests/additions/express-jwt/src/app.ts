import express, { type Express } from 'express'
import { issue, requireAuth } from './auth.js'

const PASSWORDS: Record<string, string> = { ann: 'canary-bird of ann', bob: 'canary-bird of bob' }

export function createApp(): Express {
  const app: Express = express()
  const tasks: { title: string; by: string }[] = []

  app.disable('x-powered-by')
  app.use(express.json())

  app.get('/', (_req, res) => {
    res.send('Tasks')
  })

  app.post('/login', (req, res) => {
    const { name, password } = req.body as { name: string; password: string }
    if (PASSWORDS[name] !== password) return void res.status(401).json({ error: 'wrong name or password' })
    res.json({ token: issue(name) })
  })

  app.get('/tasks', requireAuth, (_req, res) => {
    res.json({ tasks })
  })

  app.post('/tasks', requireAuth, (req, res) => {
    tasks.push({ title: String(req.body.title), by: req.user!.sub })
    res.sendStatus(201)
  })

  return app
}
