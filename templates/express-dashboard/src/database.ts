/** The database: users, who watches which board, the samples of the last hour, and whose each socket is. */

import Sqlite from "better-sqlite3";

import { BOARD, type Sample } from "./machine.ts";

const SCHEMA = `
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL, seen_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS watchers (
  board TEXT NOT NULL, user TEXT NOT NULL REFERENCES users, PRIMARY KEY (board, user)
) STRICT;
CREATE TABLE IF NOT EXISTS samples (
  id INTEGER PRIMARY KEY, board TEXT NOT NULL, series TEXT NOT NULL, value REAL NOT NULL, unit TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS samples_of_board ON samples (board, at);
CREATE TABLE IF NOT EXISTS sockets (id TEXT PRIMARY KEY, user TEXT NOT NULL) STRICT;
`;

const KEPT_S = 3600;
/** For so long a statement waits for another process. */
const BUSY_MS = 5000;

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
      this.addWatcher(BOARD, user);
      return true;
    })();
  }

  /** That his page has shown itself. */
  seen(user: string, at: number): void {
    this.#run("UPDATE users SET seen_at = ? WHERE name = ?", at, user);
  }

  boardsOf(user: string): string[] {
    const rows = this.#all<{ board: string }>("SELECT board FROM watchers WHERE user = ? ORDER BY board", user);
    return rows.map(({ board }) => board);
  }

  addWatcher(board: string, user: string): void {
    this.#run("INSERT OR IGNORE INTO watchers VALUES (?, ?)", board, user);
  }

  removeWatcher(board: string, user: string): void {
    this.#run("DELETE FROM watchers WHERE board = ? AND user = ?", board, user);
  }

  store(board: string, samples: readonly Sample[]): void {
    this.#sqlite.transaction(() => {
      for (const { series, value, unit, at } of samples) {
        const sql = "INSERT INTO samples (board, series, value, unit, at) VALUES (?, ?, ?, ?, ?)";
        this.#run(sql, board, series, value, unit, at);
      }
      this.#run("DELETE FROM samples WHERE board = ? AND at < ?", board, Date.now() / 1000 - KEPT_S);
    })();
  }

  /** The newest, ascending. */
  samples(board: string, limit: number): Sample[] {
    const sql = "SELECT series, value, unit, at FROM samples WHERE board = ? ORDER BY at DESC, id DESC LIMIT ?";
    return this.#all<Sample>(sql, board, limit).reverse();
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
