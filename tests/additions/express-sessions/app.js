'use strict';

const path = require('path');
const express = require('express');
const session = require('express-session');
const morgan = require('morgan');

const auth = require('./routes/auth');
const notes = require('./routes/notes');

const app = express();

app.set('trust proxy', 1);
app.use(morgan('tiny', { skip: () => process.env.NODE_ENV === 'test' }));
app.use(express.json());
app.use(express.urlencoded({ extended: false }));
app.use(express.static(path.join(__dirname, 'public')));
app.use(
  session({
    secret: process.env.SESSION_SECRET || 'canary-bird: keyboard cat, of development alone',
    resave: false,
    saveUninitialized: false,
    cookie: { httpOnly: true, sameSite: 'lax' },
  })
);

app.use('/', auth);
app.use('/notes', notes);

// Whatever is left
app.use((req, res) => {
  res.status(404).json({ error: 'not found' });
});

app.use((err, req, res, next) => {
  res.status(err.status || 500).json({ error: err.message });
});

module.exports = app;
