/** The database: users, channels, who is in them, what was said, and whose each socket is. */

import Sqlite from "better-sqlite3";

const SCHEMA = `
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL, seen_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS members (
  channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL REFERENCES users, PRIMARY KEY (channel, user)
) STRICT;
CREATE TABLE IF NOT EXISTS messages (
  seq INTEGER PRIMARY KEY, channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL, content TEXT NOT NULL,
  at INTEGER NOT NULL, edited_at INTEGER, request_id TEXT NOT NULL, UNIQUE (user, request_id)
) STRICT;
CREATE INDEX IF NOT EXISTS messages_of_channel ON messages (channel, seq);
CREATE TABLE IF NOT EXISTS sockets (id TEXT PRIMARY KEY, user TEXT NOT NULL) STRICT;
INSERT OR IGNORE INTO channels VALUES (1, 'General');
`;

/** The channel that everyone is in. */
const GENERAL = 1;
/** For so long a statement waits for another process. */
const BUSY_MS = 5000;
const MESSAGE = "SELECT seq, channel, user, content, at, edited_at FROM messages";

export interface Message {
  readonly seq: number;
  readonly channel: number;
  readonly user: string;
  readonly content: string;
  readonly at: number;
  readonly edited_at: number | null;
}

export class Database {
  readonly #sqlite: Sqlite.Database;

  constructor(file: string) {
    this.#sqlite = new Sqlite(file, { timeout: BUSY_MS });
    this.#turnToWal();
    this.#sqlite.pragma("foreign_keys = ON");
    this.#sqlite.exec(SCHEMA);
  }

  /** Of several processes that open a new file at once SQLite refuses some, and does not wait there by itself. */
  #turnToWal(): void {
    const until = Date.now() + BUSY_MS;
    for (;;) {
      try {
        this.#sqlite.pragma("journal_mode = WAL");
        return;
      } catch (error) {
        const isBusy = error instanceof Sqlite.SqliteError && error.code.startsWith("SQLITE_BUSY");
        if (!isBusy || Date.now() > until) throw error;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
      }
    }
  }

  close(): void {
    this.#sqlite.close();
  }

  passwordOf(user: string): string | undefined {
    return this.#get<{ password: string }>("SELECT password FROM users WHERE name = ?", user)?.password;
  }

  /** Whether nobody had the name. */
  signUp(user: string, password: string): boolean {
    return this.#sqlite.transaction(() => {
      const made = this.#run("INSERT OR IGNORE INTO users (name, password) VALUES (?, ?)", user, password);
      if (made.changes === 0) return false;
      this.addMember(GENERAL, user);
      return true;
    })();
  }

  /** That his page has shown itself. */
  seen(user: string, at: number): void {
    this.#run("UPDATE users SET seen_at = ? WHERE name = ?", at, user);
  }

  channelsOf(user: string): { id: number; name: string }[] {
    return this.#all("SELECT id, name FROM channels JOIN members ON channel = id WHERE user = ? ORDER BY id", user);
  }

  isMember(channel: number, user: string): boolean {
    return this.#get("SELECT 1 FROM members WHERE channel = ? AND user = ?", channel, user) !== undefined;
  }

  createChannel(name: string): number {
    return Number(this.#run("INSERT INTO channels (name) VALUES (?)", name).lastInsertRowid);
  }

  addMember(channel: number, user: string): void {
    this.#run("INSERT OR IGNORE INTO members VALUES (?, ?)", channel, user);
  }

  removeMember(channel: number, user: string): void {
    this.#run("DELETE FROM members WHERE channel = ? AND user = ?", channel, user);
  }

  /** Stores a message, or finds it: a page sends it again, under the same id, if it has no answer. */
  store(channel: number, user: string, content: string, requestId: string): Message {
    const sql = "INSERT OR IGNORE INTO messages (channel, user, content, at, request_id) VALUES (?, ?, ?, ?, ?)";
    this.#run(sql, channel, user, content, Date.now(), requestId);
    return this.#get<Message>(`${MESSAGE} WHERE user = ? AND request_id = ?`, user, requestId)!;
  }

  /** Nothing, if no message of this user's is there under that number. */
  edit(channel: number, seq: number, user: string, content: string): Message | undefined {
    const sql = "UPDATE messages SET content = ?, edited_at = ? WHERE channel = ? AND seq = ? AND user = ?";
    if (this.#run(sql, content, Date.now(), channel, seq, user).changes === 0) return undefined;
    return this.#get<Message>(`${MESSAGE} WHERE seq = ?`, seq);
  }

  /** The newest, ascending. */
  messages(channel: number, limit: number): Message[] {
    return this.#all<Message>(`${MESSAGE} WHERE channel = ? ORDER BY seq DESC LIMIT ?`, channel, limit).reverse();
  }

  userOfSocket(id: string): string | undefined {
    return this.#get<{ user: string }>("SELECT user FROM sockets WHERE id = ?", id)?.user;
  }

  addSocket(id: string, user: string): void {
    this.#run("INSERT OR IGNORE INTO sockets VALUES (?, ?)", id, user);
  }

  removeSocket(id: string): void {
    this.#run("DELETE FROM sockets WHERE id = ?", id);
  }

  #get<Row>(sql: string, ...values: unknown[]): Row | undefined {
    return this.#sqlite.prepare(sql).get(...values) as Row | undefined;
  }

  #all<Row>(sql: string, ...values: unknown[]): Row[] {
    return this.#sqlite.prepare(sql).all(...values) as Row[];
  }

  #run(sql: string, ...values: unknown[]): Sqlite.RunResult {
    return this.#sqlite.prepare(sql).run(...values);
  }
}
