'use strict';

const bcrypt = require('bcryptjs');

// A database, as far as the routes know.
const users = [
  { id: 1, email: 'ann@example.com', hash: bcrypt.hashSync('canary-bird of ann', 4) },
  { id: 2, email: 'bob@example.com', hash: bcrypt.hashSync('canary-bird of bob', 4) },
];

exports.check = async (email, password) => {
  const user = users.find((one) => one.email === email);
  if (!user) return null;
  return (await bcrypt.compare(password, user.hash)) ? user : null;
};

exports.byId = (id) => users.find((one) => one.id === id);
