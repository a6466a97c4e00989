'use strict';

const express = require('express');
const users = require('../users');

const router = express.Router();

router.post('/login', async (req, res, next) => {
  try {
    const user = await users.check(req.body.email, req.body.password);
    if (!user) return res.status(401).json({ error: 'wrong email or password' });
    req.session.regenerate((err) => {
      if (err) return next(err);
      req.session.userId = user.id;
      res.json({ id: user.id, email: user.email });
    });
  } catch (err) {
    next(err);
  }
});

router.post('/logout', (req, res, next) => {
  req.session.destroy((err) => (err ? next(err) : res.sendStatus(204)));
});

router.get('/me', (req, res) => {
  const user = users.byId(req.session.userId);
  if (!user) return res.status(401).json({ error: 'log in first' });
  res.json({ id: user.id, email: user.email });
});

module.exports = router;
