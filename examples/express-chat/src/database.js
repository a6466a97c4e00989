/** The database: users, channels, who is in them, what was said. A message is unique by (user, request id). */

import Sqlite from "better-sqlite3";

const SCHEMA = `
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS members (
  channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL REFERENCES users, PRIMARY KEY (channel, user)
) STRICT;
CREATE TABLE IF NOT EXISTS messages (
  seq INTEGER PRIMARY KEY, channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL, content TEXT NOT NULL,
  at INTEGER NOT NULL, request_id TEXT NOT NULL, published INTEGER NOT NULL DEFAULT 0, UNIQUE (user, request_id)
) STRICT;
CREATE INDEX IF NOT EXISTS messages_of_channel ON messages (channel, seq);
CREATE INDEX IF NOT EXISTS unpublished_of_channel ON messages (channel, seq) WHERE published = 0;
INSERT OR IGNORE INTO channels VALUES (1, 'General');
`;

/** The channel that everyone is in. */
const GENERAL = 1;

export class Database {
  #sqlite;

  constructor(file) {
    this.#sqlite = new Sqlite(file);
    this.#sqlite.pragma("journal_mode = WAL");
    this.#sqlite.pragma("foreign_keys = ON");
    this.#sqlite.exec(SCHEMA);
  }

  close() {
    this.#sqlite.close();
  }

  passwordOf(user) {
    return this.#get("SELECT password FROM users WHERE name = ?", user)?.password;
  }

  /** Whether nobody had the name. */
  signUp(user, password) {
    return this.#sqlite.transaction(() => {
      if (this.#run("INSERT OR IGNORE INTO users VALUES (?, ?)", user, password).changes === 0) return false;
      this.addMember(GENERAL, user);
      return true;
    })();
  }

  channelsOf(user) {
    return this.#all("SELECT id, name FROM channels JOIN members ON channel = id WHERE user = ? ORDER BY id", user);
  }

  isMember(channel, user) {
    return this.#get("SELECT 1 FROM members WHERE channel = ? AND user = ?", channel, user) !== undefined;
  }

  createChannel(name, user) {
    return this.#sqlite.transaction(() => {
      const { lastInsertRowid: id } = this.#run("INSERT INTO channels (name) VALUES (?)", name);
      this.addMember(id, user);
      return { id, name };
    })();
  }

  addMember(channel, user) {
    this.#run("INSERT OR IGNORE INTO members VALUES (?, ?)", channel, user);
  }

  removeMember(channel, user) {
    this.#run("DELETE FROM members WHERE channel = ? AND user = ?", channel, user);
  }

  /** Stores a message, or finds it: a page sends it again, under the same id, if it has no answer. */
  store(channel, user, content, requestId) {
    this.#run(
      "INSERT OR IGNORE INTO messages (channel, user, content, at, request_id) VALUES (?, ?, ?, ?, ?)",
      channel,
      user,
      content,
      Date.now(),
      requestId,
    );
    return this.#get(
      "SELECT seq, channel, user, content, at FROM messages WHERE user = ? AND request_id = ?",
      user,
      requestId,
    );
  }

  /** The newest, ascending. */
  messages(channel, limit) {
    return this.#all(
      "SELECT seq, user, content, at FROM messages WHERE channel = ? ORDER BY seq DESC LIMIT ?",
      channel,
      limit,
    ).reverse();
  }

  /** The oldest message of each channel, but for these channels. */
  oldestUnpublished(withoutChannels, limit) {
    return this.#all(
      `SELECT seq, channel, user, content, at FROM channels JOIN messages
         ON seq = (SELECT min(seq) FROM messages WHERE channel = channels.id AND published = 0)
       WHERE channels.id NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?`,
      JSON.stringify(withoutChannels),
      limit,
    );
  }

  markPublished(seqs) {
    const mark = this.#sqlite.prepare("UPDATE messages SET published = 1 WHERE seq = ?");
    this.#sqlite.transaction(() => seqs.forEach((seq) => mark.run(seq)))();
  }

  #get(sql, ...values) {
    return this.#sqlite.prepare(sql).get(...values);
  }

  #all(sql, ...values) {
    return this.#sqlite.prepare(sql).all(...values);
  }

  #run(sql, ...values) {
    return this.#sqlite.prepare(sql).run(...values);
  }
}
