import type { NextFunction, Request, Response } from 'express'
import jwt from 'jsonwebtoken'

const KEY = process.env.JWT_KEY ?? 'canary-bird: a key of development, longer than 32 bytes'

declare module 'express-serve-static-core' {
  interface Request {
    user?: { sub: string }
  }
}

export function issue(name: string): string {
  return jwt.sign({ sub: name }, KEY, { expiresIn: '1h' })
}

export const requireAuth = (req: Request, res: Response, next: NextFunction) => {
  const token = req.headers.authorization?.replace(/^Bearer /, '') ?? ''
  try {
    req.user = jwt.verify(token, KEY) as { sub: string }
    next()
  } catch {
    res.status(401).json({ error: 'log in first' })
  }
}
