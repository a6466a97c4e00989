'use strict';

const express = require('express');

const router = express.Router();
const notes = [];

router.use((req, res, next) => {
  if (req.session.userId) return next();
  res.status(401).json({ error: 'log in first' });
});

router.get('/', (req, res) => {
  res.json({ notes });
});

router.post('/', (req, res) => {
  const note = { id: notes.length + 1, text: String(req.body.text || ''), by: req.session.userId };
  notes.push(note);
  res.status(201).json(note);
});

module.exports = router;
